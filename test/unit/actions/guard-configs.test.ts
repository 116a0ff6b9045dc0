/** What the configurations of basic-auth, circuit-breaker, close-connection and verify-webhook may say (§5.2 … §5.4, §5.27). */
import { describe, expect, it } from 'vitest'
import { type Action, type CompileContext, register } from '../../../src/actions/action.ts'
import { basicAuth } from '../../../src/actions/basic-auth.ts'
import { circuitBreaker } from '../../../src/actions/circuit-breaker.ts'
import { closeConnection } from '../../../src/actions/close-connection.ts'
import { verifyWebhook } from '../../../src/actions/verify-webhook.ts'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { parseDocuments } from '../../../src/config/document.ts'
import { SourceFile } from '../../../src/config/source.ts'
import { compileTemplate } from '../../../src/expression/template.ts'

/** Codes of what is wrong with a config, `ok` for none. */
function codesOf<Config, Plan>(action: Action<Config, Plan>, text: string): string {
  const diagnostics = new Diagnostics()
  const [node] = parseDocuments(new SourceFile('policy.yaml', text), diagnostics)
  const environment = { phase: 'on_http_request', overrides: true, now: () => new Date() } as const
  // what these actions ask of the context, and no more
  const context = {
    diagnostics,
    identity: `test\0${text}`,
    template: (source: Parameters<typeof compileTemplate>[0]) => compileTemplate(source, environment, diagnostics),
  } as unknown as CompileContext
  const prepared = register(action).prepare(node!, context)
  const codes = diagnostics.all.map(({ severity, code }) => `${severity} ${code}`)
  expect(prepared === undefined, codes.join()).toBe(diagnostics.hasErrors)
  return codes.join(', ') || 'ok'
}

const credentials = (...list: string[]): string => `credentials: ${JSON.stringify(list)}`
const LONG = 'p'.repeat(128)

describe('basic-auth config', () => {
  it.each([
    ['one pair', credentials('user:password'), 'ok'],
    ['a password with colons, 128 characters', credentials(`a:b:c:d:efgh`, `user:${LONG}`), 'ok'],
    ['characters, not bytes, are counted', credentials('user:pässwörd'), 'ok'],
    ['ten pairs', credentials(...Array.from({ length: 10 }, (_, index) => `user${index}:password`)), 'ok'],
    ['the same user twice', credentials('user:password', 'user:password2'), 'ok'],
    ['a pair interpolated', credentials("${req.headers['a'][0]}:${secrets.get('v', 's')}"), 'ok'],
    ['all of it interpolated', credentials("${secrets.get('v', 's')}"), 'ok'],
    ['part of a user interpolated', credentials('pre${req.method}:literal'), 'ok'],
    ['realm and enforce', `${credentials('user:password')}\nrealm: "a \\"b\\""\nenforce: false`, 'ok'],
    [
      'user and password apart, as a published guide writes them',
      'credentials: [{ username: user1, password: password123 }]',
      'warning CREDENTIAL_STYLE',
    ],
    ['none', 'credentials: []', 'error ERR_NGROK_2223'],
    ['no credentials', 'realm: x', 'error ERR_NGROK_2234'],
    ['eleven pairs', credentials(...Array.from({ length: 11 }, (_, i) => `u${i}:password`)), 'error ERR_NGROK_2218'],
    ['no colon', credentials('password'), 'error ERR_NGROK_2204'],
    ['no colon beside an interpolation', credentials('${req.method}literal'), 'error ERR_NGROK_2204'],
    ['two interpolations without a colon', credentials('${req.method}${req.method}'), 'error ERR_NGROK_2204'],
    ['two literal colons beside an interpolation', credentials('a:b:${req.method}'), 'error ERR_NGROK_2204'],
    ['7 characters', credentials('user:1234567'), 'error ERR_NGROK_2237'],
    ['129 characters', credentials(`user:${LONG}p`), 'error ERR_NGROK_2221'],
    ['a control character in the user', credentials('us\u0007er:password'), 'error ERR_NGROK_2257'],
    ['a control character in the password', credentials('user:pass\u0007word'), 'error ERR_NGROK_2258'],
    [
      'a colon in a user that stands apart',
      'credentials: [{ username: "a:b", password: password123 }]',
      'error ERR_NGROK_2257',
    ],
    ['a pair twice', credentials('user:password', 'user:password'), 'error ERR_NGROK_2231'],
    ['an expression that does not compile', credentials('user:${nothing.there'), 'error ERR_NGROK_2224'],
    ['a realm that is not ASCII', `${credentials('user:password')}\nrealm: Räume`, 'error ERR_NGROK_2204'],
    ['a realm of 129 characters', `${credentials('user:password')}\nrealm: ${LONG}p`, 'error ERR_NGROK_2221'],
    ['an unknown key', `${credentials('user:password')}\nusers: []`, 'error ERR_NGROK_2203'],
  ])('%s', (_, text, codes) => {
    expect(codesOf(basicAuth, text).replace('warning CREDENTIAL_STYLE, error', 'error')).toBe(codes)
  })

  it('§5.2: what is wrong is said without the password', () => {
    const diagnostics = new Diagnostics()
    const [node] = parseDocuments(new SourceFile('policy.yaml', 'credentials: ["user:hunter2"]'), diagnostics)
    const context = {
      diagnostics,
      template: (source: Parameters<typeof compileTemplate>[0]) =>
        compileTemplate(source, { phase: 'on_http_request', overrides: true, now: () => new Date() }, diagnostics),
    } as unknown as CompileContext
    register(basicAuth).prepare(node!, context)
    expect(diagnostics.all.map(({ message }) => message)).toEqual(['a password needs at least 8 characters'])
  })
})

describe('circuit-breaker config', () => {
  it.each([
    [
      'the documented example',
      'error_threshold: 0.25\nvolume_threshold: 40\nwindow_duration: 30s\ntripped_duration: 20s',
      'ok',
    ],
    ['an empty one', '{}', 'ok'],
    [
      'the ends of the ranges',
      'error_threshold: 1.0\nvolume_threshold: 2000000000\nwindow_duration: 2m\ntripped_duration: 1s',
      'ok',
    ],
    ['a threshold in per cent', 'error_threshold: 50', 'error ERR_NGROK_2215'],
    ['a volume of 0', 'volume_threshold: 0', 'error ERR_NGROK_2215'],
    ['a window too short', 'window_duration: 500ms', 'error ERR_NGROK_2215'],
    ['a window too long', 'window_duration: 3m', 'error ERR_NGROK_2225'],
    ['another number of buckets', 'num_buckets: 20', 'error ERR_NGROK_2215'],
    [
      'keys of the old module',
      'rolling_window: 60s\nerror_threshold_percentage: 0.5',
      'error ERR_NGROK_2203, error ERR_NGROK_2203',
    ],
  ])('%s', (_, text, codes) => {
    expect(codesOf(circuitBreaker, text)).toBe(codes)
  })
})

describe('close-connection config', () => {
  it('is empty', () => {
    expect(codesOf(closeConnection, '{}')).toBe('ok')
    expect(codesOf(closeConnection, 'status_code: 403')).toBe('error ERR_NGROK_2203')
  })
})

describe('verify-webhook config', () => {
  it.each([
    ['the documented example', "provider: github\nsecret: \"${secrets.get('hooks', 'github')}\"", 'ok'],
    ['a constant secret, not enforced', 'provider: gitlab\nsecret: secret!\nenforce: false', 'ok'],
    ['sns without a secret', 'provider: sns', 'ok'],
    ['sns with one', 'provider: sns\nsecret: x', 'warning ERR_NGROK_1626'],
    ['no secret', 'provider: github', 'error ERR_NGROK_2234'],
    ['an empty secret', 'provider: github\nsecret: ""', 'error ERR_NGROK_2223'],
    ['no provider', 'secret: x', 'error ERR_NGROK_2234'],
    ['an unknown provider', 'provider: githup\nsecret: x', 'error ERR_NGROK_2222'],
    ['a secret that does not compile', 'provider: github\nsecret: "${nothing"', 'error ERR_NGROK_2224'],
    ['a scheme that is not public', 'provider: go1\nsecret: x', 'error WEBHOOK_PROVIDER_NOT_SERVED'],
    ['an unknown key', 'provider: github\nsecret: x\nkey: y', 'error ERR_NGROK_2203'],
  ])('%s', (_, text, codes) => {
    expect(codesOf(verifyWebhook, text)).toBe(codes)
  })
})
