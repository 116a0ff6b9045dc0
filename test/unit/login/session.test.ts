/** What lies in a session, how long it counts, and that a known cookie costs no second opening. */
import { describe, expect, it } from 'vitest'
import { chooseSlot, FLOW_SLOTS, newFlow, openFlow, returnPath, sealFlow, slotOf } from '../../../src/login/flow.ts'
import { SealingKeys } from '../../../src/sealing/sealing-keys.ts'
import {
  ageOf,
  cookieSeconds,
  identityId,
  needsTouch,
  newSession,
  NO_TOKENS,
  SessionBox,
} from '../../../src/login/session.ts'

const keys = new SealingKeys(['a-key-of-more-than-32-characters-abcd'], 'cookie')
const identity = { subject: '42', email: 'ada@example.org', name: 'Ada Löwe 😀' }
const tokens = {
  identityToken: `eyJ${'abc'.repeat(600)}`,
  accessToken: 'x'.repeat(300),
  refreshToken: 'refresh',
  expiresAtMs: 1_800_000_000_000,
}
const NOW = 1_700_000_000_000

describe('SessionBox', () => {
  it.each([
    ['with tokens', newSession(identity, tokens, NOW)],
    ['without', newSession(identity, NO_TOKENS, NOW)],
    ['with attributes', newSession({ ...identity, attributes: { groups: ['a', 'b'] } }, NO_TOKENS, NOW)],
  ])('keeps everything: %s', (_, session) => {
    const box = new SessionBox(keys, 10)
    expect(box.open(box.seal(session, 'realm'), 'realm')).toEqual(session)
  })

  it('opens the same cookie once, and counts for one realm', () => {
    const box = new SessionBox(keys, 10)
    const sealed = box.seal(newSession(identity, tokens, NOW), 'realm')
    const first = box.open(sealed, 'realm')
    expect(box.open(sealed, 'realm')).toBe(first)
    expect(box.open(sealed, 'another realm')).toBeUndefined()
  })

  it('remembers no more than it may', () => {
    const box = new SessionBox(keys, 2)
    const sealed = [1, 2, 3].map((at) => box.seal(newSession(identity, NO_TOKENS, NOW + at), 'realm'))
    const opened = sealed.map((text) => box.open(text, 'realm'))
    expect(box.open(sealed[2]!, 'realm')).toBe(opened[2])
    expect(box.open(sealed[0]!, 'realm')).not.toBe(opened[0])
    expect(box.open(sealed[0]!, 'realm')).toEqual(opened[0])
  })

  it('what opens as a login that has begun is no session, and the other way round', () => {
    const box = new SessionBox(keys, 2)
    const flow = newFlow(0, '/', NOW)
    expect(box.open(sealFlow(flow, keys, 'realm'), 'realm')).toBeUndefined()
    expect(openFlow(box.seal(newSession(identity, NO_TOKENS, NOW), 'realm'), flow.state, keys, 'realm')).toBeUndefined()
  })
})

describe('lifetimes', () => {
  const session = { ...newSession(identity, NO_TOKENS, NOW), activeAtMs: NOW + 1000 }

  it.each([
    [{ idleMs: undefined, maxMs: undefined }, 1e12, 'valid'],
    [{ idleMs: 5000, maxMs: undefined }, 5999, 'valid'],
    [{ idleMs: 5000, maxMs: undefined }, 6000, 'timed out'],
    [{ idleMs: undefined, maxMs: 5000 }, 4999, 'valid'],
    [{ idleMs: 60_000, maxMs: 5000 }, 5000, 'max duration reached'],
  ] as const)('%o after %i ms: %s', (limits, afterMs, age) => expect(ageOf(session, limits, NOW + afterMs)).toBe(age))

  it('is written anew after a twentieth of the idle time, at the latest after 30 s', () => {
    const limits = { idleMs: 20_000, maxMs: undefined }
    expect(needsTouch(session, limits, session.activeAtMs + 999)).toBe(false)
    expect(needsTouch(session, limits, session.activeAtMs + 1000)).toBe(true)
    expect(needsTouch(session, { ...limits, idleMs: 86_400_000 }, session.activeAtMs + 30_000)).toBe(true)
    expect(needsTouch(session, { idleMs: undefined, maxMs: 5000 }, session.activeAtMs + 1e9)).toBe(false)
  })

  it('tells the browser what is left', () => {
    expect(cookieSeconds(session, { idleMs: undefined, maxMs: undefined }, NOW)).toBeUndefined()
    expect(cookieSeconds(session, { idleMs: 60_000, maxMs: 30_000 }, NOW + 10_000)).toBe(20)
  })
})

describe('flows', () => {
  it('open with their own state only', () => {
    const flow = newFlow(2, '/a?b=c', NOW)
    const sealed = sealFlow(flow, keys, 'realm')
    expect(openFlow(sealed, flow.state, keys, 'realm')).toEqual(flow)
    expect(openFlow(sealed, `${flow.state}x`, keys, 'realm')).toBeUndefined()
    expect(openFlow(sealed, flow.state, keys, 'other')).toBeUndefined()
    expect(slotOf(flow.state)).toBe(2)
    for (const state of ['', '2', '9.x', `7.${'a'.repeat(32)}`, `2.${'a'.repeat(31)}`, `22.${'a'.repeat(32)}`]) {
      expect(slotOf(state)).toBeUndefined()
    }
  })

  it('take a free slot, or any when none is; what no person made has one of its own', () => {
    expect(chooseSlot(true, (slot) => slot !== 3)).toBe(3)
    for (let at = 0; at < 50; at++) expect(chooseSlot(true, () => true)).toBeLessThan(FLOW_SLOTS)
    expect(chooseSlot(false, () => false)).toBe(FLOW_SLOTS)
  })

  it.each(['/', '/a', '/a?b=c&d=%20', '/a//b', '/~x/;y=1?q=/\u007e', '/?x=//y'])('%s stays on this host', (path) => {
    expect(returnPath(path)).toBe(path)
  })

  it.each([
    '',
    'a',
    '//a',
    '///a',
    '/\\a',
    '\\a',
    '/\ta',
    '/\n//a',
    ' /a',
    '/a b',
    'https://a',
    '/é',
    '/a\\b',
    `/${'a'.repeat(2000)}`,
  ])('%s might leave it', (path) => expect(returnPath(path)).toBe('/'))
})

it('identity ids are stable and tell providers apart', () => {
  expect(identityId('github', '42')).toBe(identityId('github', '42'))
  expect(identityId('github', '42')).not.toBe(identityId('gitlab', '42'))
  expect(identityId('github', '42')).toMatch(/^idt_[0-9a-f]{26}$/)
})
