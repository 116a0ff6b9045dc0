import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { environmentName, readArguments, UsageError, type Flags } from '../../../src/cli/arguments.ts'
import { runCommandLine, VERBS } from '../../../src/cli/command-line.ts'
import { httpVerb } from '../../../src/cli/http.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-cli-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true, force: true })
})

async function command(
  words: readonly string[],
  environment: Record<string, string> = {},
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  let out = ''
  let err = ''
  const code = await runCommandLine(words, {
    environment,
    out: (text) => (out += text),
    err: (text) => (err += text),
    isTerminal: false,
  })
  return { code, out, err }
}

const FLAGS: Flags = {
  config: { type: 'text', short: 'c', repeats: true, meaning: 'x' },
  'log-level': { type: 'text', meaning: 'x', oneOf: ['info', 'debug'] },
  strict: { type: 'switch', meaning: 'x', aliases: ['severe'] },
  json: { type: 'switch', meaning: 'x', only: 'command-line' },
}
const read = (words: string[], environment: Record<string, string> = {}): ReturnType<typeof readArguments> =>
  readArguments(words, FLAGS, { min: 0, max: 1 }, environment, { tunnel: 'there are no tunnels here' })

describe('arguments', () => {
  test('values in every spelling', () => {
    const given = read(['-c', 'a', '--config=b', '-cc', '--strict', 'operand', '--log-level', 'debug'])
    expect(given.list('config')).toEqual(['a', 'b', 'c'])
    expect(given.text('log-level')).toBe('debug')
    expect(given.switch('strict')).toBe(true)
    expect(given.operands).toEqual(['operand'])
    expect(read(['--no-strict']).switch('strict')).toBe(false)
    expect(read(['--severe']).switch('strict')).toBe(true)
    expect(read([]).switch('strict')).toBeUndefined()
    expect(read(['--', '--strict']).operands).toEqual(['--strict'])
  })

  test('O-11: the flag wins over its environment twin', () => {
    expect(environmentName('traffic-policy-file')).toBe('SALLYPORT_TRAFFIC_POLICY_FILE')
    const environment = { SALLYPORT_CONFIG: 'x,y', SALLYPORT_STRICT: '1', SALLYPORT_JSON: '1', SALLYPORT_LOG_LEVEL: '' }
    const given = read([], environment)
    expect(given.list('config')).toEqual(['x', 'y'])
    expect(given.switch('strict')).toBe(true)
    expect(given.switch('json')).toBeUndefined()
    expect(given.text('log-level')).toBeUndefined()
    expect(read(['-c', 'z'], environment).list('config')).toEqual(['z'])
    expect(read(['--strict=false'], environment).switch('strict')).toBe(false)
  })

  test.each([
    [['--strct'], 'unknown flag --strct; did you mean --strict?'],
    [['--whatever-else'], 'unknown flag --whatever-else'],
    [['--tunnel'], '--tunnel: there are no tunnels here'],
    [['--log-level'], '--log-level needs a value'],
    [['--log-level', 'inf'], '--log-level is one of info, debug, not "inf"; did you mean info?'],
    [['-x'], 'unknown flag -x'],
    [['a', 'b'], 'unexpected operand "b"'],
    [['--no-config'], 'unknown flag --no-config'],
  ])('%j is refused: %s', (words, message) => {
    expect(() => read(words)).toThrow(new UsageError(message))
  })

  test('a wrong value in the environment names the variable', () => {
    expect(() => read([], { SALLYPORT_STRICT: 'perhaps' })).toThrow('SALLYPORT_STRICT is true or false')
  })
})

describe('verbs', () => {
  test('O-01: without a verb: help, exit 2; with --help: exit 0', async () => {
    const none = await command([])
    expect(none).toMatchObject({ code: 2, out: '' })
    for (const words of [['help'], ['--help'], ['-h']]) {
      expect(await command(words)).toEqual({ code: 0, out: none.err, err: '' })
    }
    for (const { name, summary } of VERBS) {
      expect(none.err).toContain(`  ${name}`)
      for (const words of [
        [name, '--help'],
        ['help', name],
        [name, '-h'],
      ]) {
        const { code, out } = await command(words)
        expect(code).toBe(0)
        expect(out).toContain(`usage: sallyport ${name}`)
        expect(out.replaceAll('\n', ' ')).toContain(summary)
      }
    }
  })

  test('every flag is explained, with its environment twin', async () => {
    for (const { name, flags } of VERBS) {
      const { out } = await command(['help', name])
      for (const [flag, { only }] of Object.entries(flags)) {
        expect(out).toContain(`--${flag}`)
        expect(out.includes(`[${environmentName(flag)}]`)).toBe(only !== 'command-line')
      }
      for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(120)
    }
  })

  test.each([
    [['chekc'], 'unknown verb chekc; did you mean check?'],
    [['relaod'], 'unknown verb relaod; did you mean reload?'],
    [['frobnicate'], 'unknown verb frobnicate; `sallyport --help` lists the verbs'],
    [['help', 'nothing-like-it'], 'unknown verb nothing-like-it'],
    [['run', '--wrokers', '2'], 'unknown flag --wrokers; did you mean --workers?'],
    [['stop', 'now'], 'unexpected operand "now"'],
    [['crs'], 'an operand is missing'],
    [['crs', 'remove'], 'crs knows `install`, not remove'],
    [['http'], 'an operand is missing'],
    [['http', '8000'], '--url is needed'],
    [['start'], 'name endpoints of the file, or give --all'],
    [['start', '--all', 'web'], 'give either --all or names of endpoints'],
    [['start', '--none'], '--none: a gateway without endpoints answers nothing'],
    [['config'], 'an operand is missing'],
    [['config', 'chekc'], 'config knows `check`, not chekc'],
    [['config', 'upgrade'], '`ngrok config upgrade` writes version 3'],
    [['config', 'add-authtoken', 'x'], 'no account is needed'],
    [['config', 'check', 'ngrok.yml'], 'name the file with --config'],
    [['status', '--timeout', 'soon'], '--timeout is a number of seconds above 0'],
  ])('O-10: %j exits 2', async (words, message) => {
    const { code, out, err } = await command(words)
    expect(code).toBe(2)
    expect(out).toBe('')
    expect(err).toContain(message)
  })

  test('version', async () => {
    expect((await command(['version'])).out).toMatch(/^sallyport \d+\.\d+\.\d+\n$/)
    expect(await command(['--version'])).toEqual(await command(['version']))
    expect(JSON.parse((await command(['version', '--json'])).out)).toMatchObject({ node: process.versions.node })
  })
})

describe('check', () => {
  const GOOD = `
endpoints:
  - name: web
    url: http://localhost:8080
    traffic_policy: {on_http_request: [{actions: [{type: deny}]}]}
`

  test('a good configuration: exit 0', async () => {
    const file = join(folder, 'gateway.yaml')
    writeFileSync(file, GOOD)
    for (const verb of ['check', 'validate', '-t']) {
      expect(await command([verb, '-c', file])).toEqual({ code: 0, out: 'the configuration is good\n', err: '' })
    }
    expect((await command(['check'], { SALLYPORT_CONFIG: file })).code).toBe(0)
  })

  test('O-03: every error with place and caret, exit 1; json for machines', async () => {
    const file = join(folder, 'gateway.yaml')
    writeFileSync(file, GOOD.replace('type: deny', 'type: dney').replace('    url:', '    uri:'))
    const text = await command(['check', '-c', file])
    expect(text.code).toBe(1)
    expect(text.err).toMatch(/gateway\.yaml:4:5: error: /)
    expect(text.err).toMatch(/gateway\.yaml:5:\d+: error: /)
    expect(text.err).toMatch(/\n {4}\| +\^+/)
    const json = await command(['check', '-c', file, '--format', 'json'])
    expect(json.code).toBe(1)
    const list = JSON.parse(json.out) as { severity: string; file?: string; line?: number; code: string }[]
    expect(list.some(({ line, severity }) => severity === 'error' && line === 4)).toBe(true)
    expect(list.some(({ line, severity }) => severity === 'error' && line === 5)).toBe(true)
  })

  test('O-02: warnings do not change the exit code, unless --strict', async () => {
    const file = join(folder, 'gateway.yaml')
    writeFileSync(file, `${GOOD}upstream_hosts: {"nobody:80": "127.0.0.1:80"}\n`)
    const lenient = await command(['check', '-c', file])
    expect(lenient.code).toBe(0)
    expect(lenient.err).toContain('warning')
    expect(lenient.out).toBe('the configuration is good; 0 errors, 1 warning\n')
    expect((await command(['check', '-c', file, '--strict'])).code).toBe(1)
  })

  test('a missing file is an error that names it', async () => {
    const { code, err } = await command(['check', '-c', join(folder, 'missing.yaml')])
    expect(code).toBe(1)
    expect(err).toContain('missing.yaml: no such file')
  })
})

describe('config check: agent configurations (O-07)', () => {
  const FILE = `version: 3
agent: {authtoken: unused}
endpoints:
  - name: web
    url: http://localhost:8080
    upstream: {url: 8000}
    traffic_policy: {on_http_request: [{actions: [{type: deny}]}]}
`

  test('a good file: exit 0, and each ignored key has its sentence', async () => {
    const file = join(folder, 'ngrok.yml')
    writeFileSync(file, FILE)
    const { code, out, err } = await command(['config', 'check', '--config', file])
    expect({ code, out }).toEqual({ code: 0, out: 'the configuration is good; 0 errors, 1 warning\n' })
    expect(err).toContain('ngrok.yml:2:9: warning: agent.authtoken is ignored: no account is needed')
  })

  test('its policies are checked, and its unknown keys are errors', async () => {
    const file = join(folder, 'ngrok.yml')
    writeFileSync(file, FILE.replace('type: deny', 'type: dney').replace('name: web', 'nmae: web'))
    const { code, err } = await command(['config', 'check', '--config', file])
    expect(code).toBe(1)
    expect(err).toMatch(/ngrok\.yml:4:5: error: /)
    expect(err).toMatch(/ngrok\.yml:7:\d+: error: /)
  })

  test('SALLYPORT_CONFIG names settings of the gateway, not this file', async () => {
    const file = join(folder, 'ngrok.yml')
    writeFileSync(file, FILE)
    const { code, err } = await command(['config', 'check'], { SALLYPORT_CONFIG: file })
    expect(code).toBe(1)
    expect(err).toContain('no agent configuration found')
  })
})

describe('http: flags of ngrok (O-07)', () => {
  test.each(Object.keys(httpVerb.refused ?? {}))('--%s is refused with a sentence', async (flag) => {
    const { code, err } = await command(['http', '8000', '--url', 'http://localhost:8080', `--${flag}=x`])
    expect(code).toBe(2)
    expect(err).toMatch(new RegExp(`^sallyport http: --${flag}: \\S.{15,}\n`))
  })

  test('the flags of kubernetes-objects.md §7 are all known, one way or the other', () => {
    const flags =
      'url binding pooling-enabled name description metadata traffic-policy-file traffic-policy-url upstream-protocol upstream-proxy-protocol upstream-tls-verify upstream-tls-verify-cas inspect crt key mutual-tls-cas authtoken config region host-header domain hostname subdomain scheme remote-addr policy-file basic-auth cidr-allow cidr-deny circuit-breaker compression oauth oidc request-header-add request-header-remove response-header-add response-header-remove ua-filter-allow ua-filter-deny verify-webhook websocket-tcp-converter app-protocol terminate-at'
    const known = new Set([
      ...Object.entries(httpVerb.flags).flatMap(([name, { aliases }]) => [name, ...(aliases ?? [])]),
      ...Object.keys(httpVerb.refused ?? {}),
    ])
    expect(flags.split(' ').filter((flag) => !known.has(flag))).toEqual([])
  })
})

describe('instance verbs', () => {
  test.each(['reload', 'stop', 'status', 'health'])('%s without an instance: exit 3', async (verb) => {
    const { code, err } = await command([verb, '--state-dir', folder])
    expect(code).toBe(3)
    expect(err).toBe(`sallyport: no sallyport runs with the state folder ${folder}\n`)
  })

  test('the state folder comes from the configuration, even from one with errors', async () => {
    const file = join(folder, 'gateway.yaml')
    writeFileSync(file, `state_dir: ${folder}/mine\nnonsense: 1\n`)
    const { code, err } = await command(['status', '-c', file])
    expect(code).toBe(3)
    expect(err).toContain(`${folder}/mine`)
  })
})
