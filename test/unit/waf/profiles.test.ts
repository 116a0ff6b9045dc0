/** What the actions of a policy ask of the rule set: which response a request's transaction can judge (§5.14, §5.15). */
import { describe, expect, it } from 'vitest'
import { WafProfiles } from '../../../src/waf/profiles.ts'

const options = (excludeRuleIds: number[] = [], processBody = false) => ({ processBody, excludeRuleIds, enforce: true })

describe('WafProfiles', () => {
  it('a request profile carries what the first response action asks, in either order', () => {
    const responseFirst = new WafProfiles()
    const asked = options([950100])
    responseFirst.forResponse(asked)
    expect(responseFirst.forRequest(options()).response).toBe(asked)
    const requestFirst = new WafProfiles()
    const request = requestFirst.forRequest(options())
    expect(request.response).toBeUndefined()
    requestFirst.forResponse(asked)
    expect(request.response).toBe(asked)
  })

  it('a second response action has a profile of its own, and no request profile of the other', () => {
    const profiles = new WafProfiles()
    const first = options([950100])
    const second = options([], true)
    const request = profiles.forRequest(options())
    profiles.forResponse(first)
    const other = profiles.forResponse(second)
    expect(request.response).toBe(first)
    expect(other).toMatchObject({ request: undefined, response: second })
    expect(profiles.all).toHaveLength(3)
  })

  it('without a rule set no profile serves', () => {
    const profile = new WafProfiles().forRequest(options())
    expect(() => profile.handle).toThrow('not loaded')
    profile.release()
    expect(() => profile.handle).toThrow('not loaded')
  })
})
