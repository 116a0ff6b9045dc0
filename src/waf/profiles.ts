/**
 * What the `owasp-crs-*` actions of a policy ask of the rule set: collected while the policy compiles, bound to the
 * native rule set once that is loaded.
 *
 * One profile serves both directions of an exchange, so that a response is judged by the transaction that saw its
 * request: a request profile carries what the policy's response action asks as well.
 */
import type { Settings } from '../config/settings.ts'
import {
  prepareProfile,
  type ProfileHandle,
  type ProfileOptions,
  releaseProfile,
  type RuleSetHandle,
} from '../native/rule-set.ts'

/** What one action's config says. */
export interface WafOptions {
  readonly processBody: boolean
  readonly excludeRuleIds: readonly number[]
  /** False for `on_error: continue`: rules are evaluated, nothing is enforced. */
  readonly enforce: boolean
}

export class WafProfile {
  readonly request: WafOptions | undefined
  response: WafOptions | undefined
  #handle: ProfileHandle = 0

  constructor(request: WafOptions | undefined, response: WafOptions | undefined) {
    this.request = request
    this.response = response
  }

  /** The native profile. Throws when no rule set is bound: only a snapshot that was built completely serves traffic. */
  get handle(): ProfileHandle {
    if (this.#handle === 0) throw new Error('the rule set is not loaded')
    return this.#handle
  }

  async bind(ruleSet: RuleSetHandle, settings: Settings['waf']): Promise<void> {
    this.#handle = await prepareProfile(ruleSet, profileOptions(this.request, this.response, settings))
  }

  release(): void {
    if (this.#handle !== 0) releaseProfile(this.#handle)
    this.#handle = 0
  }
}

/** What the matcher is asked for actions with these options; undefined where there is no such action. */
export function profileOptions(
  request: WafOptions | undefined,
  response: WafOptions | undefined,
  settings: Settings['waf'],
): ProfileOptions {
  return {
    // each action's exclusions count for the rules that it asks for (§5.14, §5.15)
    excludeRequestRuleIds: request?.excludeRuleIds ?? [],
    excludeResponseRuleIds: response?.excludeRuleIds ?? [],
    requestBodyAccess: request?.processBody ?? false,
    responseBodyAccess: response?.processBody ?? false,
    requestBodyLimit: settings.requestBodyBytes,
    responseBodyLimit: settings.responseBodyBytes,
    paranoiaLevel: settings.paranoiaLevel,
    detectionParanoiaLevel: Math.max(settings.paranoiaLevel, settings.detectionParanoiaLevel),
    inboundThreshold: settings.inboundThreshold,
    outboundThreshold: settings.outboundThreshold,
    // `on` leaves the choice to the rule set, whose set-up may say SecRuleEngine DetectionOnly
    ...(settings.mode === 'detection_only' ? { detectionOnly: true } : {}),
  }
}

/** The profiles of one policy document. */
export class WafProfiles {
  readonly #profiles: WafProfile[] = []
  #response: WafOptions | undefined

  /** For an `owasp-crs-request` action. */
  forRequest(options: WafOptions): WafProfile {
    return this.#add(new WafProfile(options, this.#response))
  }

  /** For an `owasp-crs-response` action; request profiles of the same policy take its wishes over. */
  forResponse(options: WafOptions): WafProfile {
    if (this.#response === undefined) {
      this.#response = options
      for (const profile of this.#profiles) profile.response ??= options
    }
    return this.#add(new WafProfile(undefined, options))
  }

  get all(): readonly WafProfile[] {
    return this.#profiles
  }

  #add(profile: WafProfile): WafProfile {
    this.#profiles.push(profile)
    return profile
  }
}
