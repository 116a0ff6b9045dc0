/** One loader for everything: merging, flags, endpoints, listeners, names, and all errors at once. */
import { describe, expect, it } from 'vitest'
import { environmentName, loadConfiguration } from '../../../src/config/load.ts'
import { load, problems, readerOf, rendered } from './memory-files.ts'

const POLICY = 'on_http_request: [{actions: [{type: deny}]}]'

function endpointsOf(text: string, files: Record<string, string> = {}) {
  return load({ 'gateway.yaml': text, ...files })
}

describe('files of settings', () => {
  it('O-08: later files override earlier ones key by key; lists and values replace', () => {
    const loaded = load(
      {
        'a.yaml': 'log_level: warn\nlimits: {headers: 8KiB, uri: 8KiB}\ntrusted_proxies: [10.0.0.0/8, 192.0.2.1]',
        'b.yaml': 'limits: {uri: 9KiB, hops: 3}\ntrusted_proxies: ["::1"]',
      },
      { files: ['a.yaml', 'b.yaml'] },
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.settings).toMatchObject({
      logLevel: 'warn',
      limits: { headBytes: 8192, uriBytes: 9216, hops: 3 },
      trustedProxies: ['::1'],
    })
    expect(loaded.files).toEqual(['a.yaml', 'b.yaml'])
  })

  it('an error points into the file that gave the value', () => {
    const loaded = load(
      { 'a.yaml': 'limits: {hops: 3}', 'b.yaml': 'limits: {hops: 0}' },
      { files: ['a.yaml', 'b.yaml'] },
    )
    expect(rendered(loaded)).toContain('b.yaml:1:16: error: hops must be 1 to 100')
  })

  it('an empty value in a later file gives the default back', () => {
    const loaded = load({ 'a.yaml': 'log_level: warn', 'b.yaml': 'log_level:' }, { files: ['a.yaml', 'b.yaml'] })
    expect(loaded.settings.logLevel).toBe('info')
  })

  it('relative names are relative to the file that mentions them', () => {
    const loaded = load(
      {
        '/etc/x/gateway.yaml': `endpoints: [{name: a, url: "http://a.example", traffic_policy_file: p/a.yaml}]\nwaf: {rules: crs, include_before: [pre.conf]}\naccess_log: {output: log/access}\nstate_dir: ../state`,
        '/etc/x/p/a.yaml': POLICY,
        '/etc/x/pre.conf': 'SecAction "id:1"',
      },
      { files: ['/etc/x/gateway.yaml'] },
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints[0]?.policy).toMatchObject({ origin: 'file' })
    expect(loaded.settings).toMatchObject({
      stateDir: '/etc/state',
      accessLog: { output: '/etc/x/log/access' },
      waf: { rules: '/etc/x/crs', includeBefore: [{ path: '/etc/x/pre.conf', text: 'SecAction "id:1"' }] },
    })
  })

  it('searches ., the XDG folder and /etc when no file is named', () => {
    const text = 'region: found'
    const at = (path: string, environment = {}) =>
      loadConfiguration({ files: [] }, readerOf({ [path]: text }, environment)).settings.region
    expect(at('gateway.yaml')).toBe('found')
    expect(at('/home/u/.config/sallyport/gateway.yaml', { HOME: '/home/u' })).toBe('found')
    expect(at('/x/sallyport/gateway.yaml', { HOME: '/home/u', XDG_CONFIG_HOME: '/x' })).toBe('found')
    expect(at('/etc/sallyport/gateway.yaml')).toBe('found')
    expect(problems(loadConfiguration({ files: [] }, readerOf({}, { HOME: '/h' })))).toEqual([
      'NO_CONFIGURATION no configuration found: looked for gateway.yaml, /h/.config/sallyport/gateway.yaml, /etc/sallyport/gateway.yaml',
    ])
  })

  it('an empty file is a configuration with every default', () => {
    for (const text of ['', '# nothing\n', '---\n', '{}']) expect(problems(load({ 'gateway.yaml': text }))).toEqual([])
  })

  it('a missing file, a list, several documents and bad YAML are errors, and other files are still read', () => {
    const loaded = load(
      { 'a.yaml': '- 1', 'b.yaml': 'a: [', 'c.yaml': 'log_level: warn\n---\nx: 1', 'd.yaml': 'workers: 99' },
      { files: ['nope.yaml', 'a.yaml', 'b.yaml', 'c.yaml', 'd.yaml'] },
    )
    expect(loaded.diagnostics.all.map(({ code }) => code)).toEqual([
      'FILE_NOT_FOUND',
      'WRONG_TYPE',
      'YAML_SYNTAX',
      'SEVERAL_DOCUMENTS',
      'OUT_OF_RANGE',
    ])
    expect(loaded.settings.logLevel).toBe('warn')
  })

  it('`-` is standard input', () => {
    const loaded = load({ '-': 'worker: 1' }, { files: ['-'] })
    expect(rendered(loaded)).toContain('<stdin>:1:1: error: unknown key worker')
  })
})

describe('O-11: flag before environment before file', () => {
  const files = { 'gateway.yaml': 'log_level: warn\nworkers: 4\ndrain: {delay: 1s}' }

  it('the environment wins over files, flags over both', () => {
    const environment = { SALLYPORT_LOG_LEVEL: 'error', SALLYPORT_DRAIN_DELAY: '2s', SALLYPORT_WORKERS: '' }
    const loaded = load(files, { overrides: [{ key: 'log_level', text: 'debug', origin: '--log-level' }] }, environment)
    expect(problems(loaded)).toEqual([])
    expect(loaded.settings).toMatchObject({
      logLevel: 'debug',
      workers: 4,
      drain: { delayMs: 2000, timeoutMs: 30_000 },
    })
  })

  it('lists are written with commas', () => {
    const loaded = load(files, {}, { SALLYPORT_TRUSTED_PROXIES: '10.0.0.0/8, ::1' })
    expect(loaded.settings.trustedProxies).toEqual(['10.0.0.0/8', '::1'])
    expect(rendered(load(files, {}, { SALLYPORT_TRUSTED_PROXIES: '10.0.0.0/8, x' }))).toBe(
      [
        'SALLYPORT_TRUSTED_PROXIES:1:13: error: trusted_proxies[1] must be an address or a range such as 10.0.0.0/8, not "x" [INVALID_CIDR]',
        '  1 | 10.0.0.0/8, x',
        '    |             ^',
      ].join('\n'),
    )
  })

  it('O-13: each has a _FILE twin', () => {
    const loaded = load({ ...files, '/s/url': 'redis://h:1\n' }, {}, { SALLYPORT_REDIS_URL_FILE: '/s/url' })
    expect(loaded.settings.redis.url).toBe('redis://h:1')
    const both = load(files, {}, { SALLYPORT_REDIS_URL_FILE: '/s/url', SALLYPORT_REDIS_URL: 'redis://h' })
    expect(problems(both)[0]).toContain('VARIABLE_GIVEN_TWICE')
  })

  it('an unknown key and a wrong value name their origin', () => {
    const loaded = load(files, {
      overrides: [
        { key: 'log_levle', text: 'info', origin: '--log-levle' },
        { key: 'workers', text: '0', origin: '--workers' },
      ],
    })
    expect(rendered(loaded)).toContain('--log-levle:1:1: error: unknown key log_levle')
    expect(rendered(loaded)).toContain('--workers:1:1: error: workers must be 1 to 64, not 0')
  })

  it('names follow from keys', () => {
    expect(environmentName('waf.paranoia_level')).toBe('SALLYPORT_WAF_PARANOIA_LEVEL')
  })
})

describe('O-12: policies are not expanded', () => {
  it('inline policies keep their ${…}, whichever key they stand under', () => {
    for (const key of ['traffic_policy', 'policy']) {
      const text = `region: "\${R}"\nendpoints:\n  - name: a\n    url: http://a.example\n    ${key}: {on_http_request: [{actions: [{type: log, config: {metadata: {ip: "\${conn.client_ip}"}}}]}]}`
      const loaded = load({ 'gateway.yaml': text }, {}, { R: 'eu' })
      expect(problems(loaded)).toEqual([])
      expect(loaded.settings.region).toBe('eu')
      expect(JSON.stringify(loaded.endpoints[0]?.policy?.node)).toContain('${conn.client_ip}')
    }
  })
})

describe('endpoints', () => {
  it('with upstream they are agent endpoints, without cloud endpoints', () => {
    const loaded = endpointsOf(
      'endpoints:\n  - {name: a, url: "http://a.example", upstream: {url: 8000}}\n  - {name: b, url: "http://b.example", traffic_policy: {}}',
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints.map(({ kind, binding, pooling }) => [kind, binding, pooling])).toEqual([
      ['agent', 'public', false],
      ['cloud', 'public', false],
    ])
    expect(loaded.endpoints[0]?.upstream).toMatchObject({
      targets: [{ protocol: 'http', host: 'localhost', port: 8000, name: 'localhost:8000' }],
      protocol: 'http1',
      href: 'http://localhost:8000',
      tls: { verify: true },
      timers: { connectMs: 3000, firstByteMs: 60_000, idleMs: 300_000, keepAliveMs: 60_000 },
    })
  })

  it('without upstream and policy they can answer nothing (18011)', () => {
    expect(problems(endpointsOf('endpoints: [{name: a, url: "http://a.example"}]'))).toEqual([
      'ERR_NGROK_18011 the endpoint a has neither upstream nor policy',
    ])
  })

  it('a wrong endpoint does not hide the errors of the others, nor of its own policy', () => {
    const loaded = endpointsOf(
      'endpoints:\n  - {nam: a, url: "http://a.example/", upstream: {url: 8000}, traffic_policy_file: a.yaml}\n  - {name: b, url: "http://b.example", upstream: {url: "b/c"}}',
      { 'a.yaml': '[1]' },
    )
    expect(loaded.diagnostics.all.map(({ code }) => code)).toEqual([
      'UNKNOWN_KEY',
      'MISSING_KEY',
      'ERR_NGROK_9038',
      'ERR_NGROK_2236',
      'INVALID_UPSTREAM_URL',
    ])
    expect(loaded.endpoints).toHaveLength(2)
  })

  it('targets, tls, timers', () => {
    const loaded = endpointsOf(
      `endpoints:
  - name: a
    url: https://a.internal
    upstream:
      targets: [https://one:8443, https://two]
      tls: {verify: false, ca_file: ca.pem, server_name: a.example}
    timers: {first_byte_timeout: 10m}
upstream: {idle_timeout: 1m}`,
      { 'ca.pem': '-----BEGIN CERTIFICATE-----\n' },
    )
    expect(problems(loaded)).toEqual(['UPSTREAM_NOT_VERIFIED certificates of this upstream are not verified'])
    expect(loaded.diagnostics.hasErrors).toBe(false)
    expect(loaded.endpoints[0]).toMatchObject({
      binding: 'internal',
      upstream: {
        targets: [{ name: 'one:8443' }, { name: 'two:443' }],
        tls: { verify: false, ca: '-----BEGIN CERTIFICATE-----\n', serverName: 'a.example' },
        timers: { connectMs: 3000, firstByteMs: 600_000, idleMs: 60_000 },
      },
    })
  })

  it('refuses what cannot be, with one error each', () => {
    const one = (rest: string, files: Record<string, string> = {}): string[] =>
      problems(endpointsOf(`endpoints: [{name: a, url: "https://a.internal", ${rest}}]`, files)).map(
        (it) => it.split(' ')[0]!,
      )
    expect(one('upstream: {url: 80, targets: [81]}')).toEqual(['UPSTREAM_GIVEN_TWICE'])
    expect(one('upstream: {}')).toEqual(['MISSING_KEY'])
    expect(one('upstream: {url: 80, protocol: http3}')).toEqual(['NOT_ONE_OF'])
    expect(one('upstream: {url: 80}, bindings: [kubernetes]')).toEqual(['BINDING_NOT_SERVED'])
    expect(one('upstream: {url: 80}, bindings: [publik]')).toEqual(['ERR_NGROK_15005'])
    expect(one('upstream: {url: 80}, bindings: [public]')).toEqual(['ERR_NGROK_9029'])
    expect(one('upstream: {url: 80}, bindings: [internal, internal]')).toEqual(['ERR_NGROK_15006'])
    expect(one('upstream: {url: 80}, traffic_policy: {}, policy: {}')).toEqual(['ERR_NGROK_9025'])
    expect(one('upstream: {url: 80}, traffic_policy: {}, traffic_policy_file: p', { p: '' })).toEqual([
      'POLICY_GIVEN_TWICE',
    ])
    expect(one('upstream: {url: 80}, traffic_policy: p.yaml')).toEqual(['ERR_NGROK_2236'])
    expect(one('upstream: {url: 80}, traffic_policy_file: nope.yaml')).toEqual(['FILE_NOT_FOUND'])
    expect(one('upstream: {url: 80}, traffic_policy_file: two.yaml', { 'two.yaml': 'a: 1\n---\nb: 1' })).toEqual([
      'ERR_NGROK_2236',
    ])
    expect(one('upstream: {url: "https://h", tls: {ca_file: ca}}', { ca: 'x' })).toEqual(['INVALID_CA_FILE'])
  })

  it('a policy file that two endpoints name is read once: one warning, one tree', () => {
    const loaded = endpointsOf(
      'endpoints:\n  - {name: a, url: "https://a.internal", upstream: {url: 1}, traffic_policy_file: p}\n  - {name: b, url: "https://b.internal", upstream: {url: 2}, traffic_policy_file: p}',
      { p: 'on_http_request: [{name: $NOPE}]' },
    )
    expect(problems(loaded)).toEqual(['UNKNOWN_NAME $NOPE is not replaced: no substitution has this name'])
    expect(loaded.endpoints[0]?.policy?.node).toBe(loaded.endpoints[1]?.policy?.node)
  })

  it('two endpoints with one name, or one url without pooling, clash; both places are told', () => {
    const loaded = endpointsOf(
      'endpoints:\n  - {name: a, url: "http://a.example", upstream: {url: 1}}\n  - {name: a, url: "http://A.example:80", upstream: {url: 2}}',
    )
    expect(problems(loaded)).toEqual([
      'DUPLICATE_NAME two endpoints have the name a',
      'ERR_NGROK_334 the endpoints a and a both answer to http://a.example',
    ])
    expect(
      loaded.diagnostics.all[1]?.related?.span.source.position(loaded.diagnostics.all[1].related.span.start).line,
    ).toBe(2)
  })

  it('§4: endpoints that all pool may share a url; localhost has several names; codes tell who came second', () => {
    const two = (a: string, b: string): string[] =>
      problems(endpointsOf(`endpoints:\n  - {name: a, ${a}}\n  - {name: b, ${b}}`)).map((it) => it.split(' ')[0]!)
    const pool = 'pooling_enabled: true'
    expect(two(`url: "http://h", upstream: {url: 1}, ${pool}`, `url: "http://h", upstream: {url: 2}, ${pool}`)).toEqual(
      [],
    )
    expect(
      two('url: "http://localhost:81", upstream: {url: 1}', 'url: "http://127.0.0.1:81", upstream: {url: 2}'),
    ).toEqual(['ERR_NGROK_334'])
    expect(two('url: "http://h", traffic_policy: {}', 'url: "http://h", traffic_policy: {}')).toEqual([
      'ERR_NGROK_18009',
    ])
    expect(two('url: "http://h", traffic_policy: {}', `url: "http://h", traffic_policy: {}, ${pool}`)).toEqual([
      'ERR_NGROK_18016',
    ])
    expect(two(`url: "http://h", traffic_policy: {}, ${pool}`, 'url: "http://h", traffic_policy: {}')).toEqual([
      'ERR_NGROK_18017',
    ])
    expect(
      two('url: "https://h.internal:1", upstream: {url: 1}', 'url: "tcp://h.internal:1", upstream: {url: 2}'),
    ).toEqual([])
  })
})

describe('upstream_hosts', () => {
  it('maps host:port, to several targets if need be, and keeps the name for TLS', () => {
    const loaded = endpointsOf(
      `endpoints:
  - {name: a, url: "https://a.internal", upstream: {url: "http://Svc.ns:8080"}}
  - {name: b, url: "https://b.internal", upstream: {url: "https://tls.ns"}}
upstream_hosts: {"svc.ns:8080": [127.0.0.1:1, "[::1]:2"], "tls.ns:443": 127.0.0.1:3}`,
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints[0]?.upstream).toMatchObject({
      href: 'http://svc.ns:8080',
      targets: [
        { host: '127.0.0.1', port: 1 },
        { host: '::1', port: 2, name: '[::1]:2' },
      ],
      tls: { serverName: undefined },
    })
    expect(loaded.endpoints[1]?.upstream).toMatchObject({
      targets: [{ name: '127.0.0.1:3' }],
      tls: { serverName: 'tls.ns' },
    })
  })

  it('a host that no upstream has is a warning, one that is none an error', () => {
    expect(problems(endpointsOf('upstream_hosts: {"svc:80": "127.0.0.1:1", "svc": "127.0.0.1:1"}'))).toEqual([
      'INVALID_ADDRESS upstream_hosts names "svc", which is not host:port',
      'UNUSED_UPSTREAM_HOST no upstream url has the host and port svc:80',
    ])
  })
})

describe('listeners', () => {
  it('are derived: one per port, on the loopback when only localhost is meant', () => {
    const listeners = (...urls: string[]): string[] =>
      endpointsOf(
        `endpoints:\n${urls.map((url, index) => `  - {name: e${index}, url: "${url}", upstream: {url: 1}}`).join('\n')}`,
      ).settings.listeners.map(({ address }) => address)
    expect(listeners('http://localhost:8080')).toEqual(['127.0.0.1:8080'])
    expect(listeners('http://[::1]:8080')).toEqual(['[::1]:8080'])
    expect(listeners('http://localhost:8080', 'http://a.example:8080', 'http://b.example')).toEqual([
      '0.0.0.0:8080',
      '0.0.0.0:80',
    ])
    expect(listeners('https://a.internal')).toEqual([])
  })

  it('an https url needs a listener that is named', () => {
    const endpoint = 'endpoints: [{name: a, url: "https://a.example", upstream: {url: 1}}]'
    expect(problems(endpointsOf(endpoint))[0]).toContain('TLS_NOT_AVAILABLE https://a.example needs a listener')
    expect(problems(endpointsOf(`${endpoint}\nlisteners: [{address: ":8080"}]`))).toEqual([])
  })

  it('as configured, with their default endpoint', () => {
    const loaded = endpointsOf(
      `endpoints: [{name: shop, url: "http://shop.example", upstream: {url: 1}}, {name: i, url: i.internal, upstream: {url: 1}}]
trusted_proxies: [10.0.0.0/8]
listeners: [{address: "[::]:8080", proxy_protocol: true, default_endpoint: shop}]`,
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.settings.listeners).toEqual([
      { host: '::', port: 8080, address: '[::]:8080', proxyProtocol: true, engine: 'uws', defaultEndpoint: 'shop' },
    ])
  })

  it('run on the engine that they name, or on the one of all', () => {
    const endpoints = 'endpoints: [{name: shop, url: "http://shop.example:8080", upstream: {url: 1}}]\n'
    const engines = (text: string): string[] => {
      const loaded = endpointsOf(endpoints + text)
      expect(problems(loaded)).toEqual([])
      return loaded.settings.listeners.map(({ engine }) => engine)
    }
    expect(engines('')).toEqual(['uws'])
    expect(engines('engine: native')).toEqual(['native'])
    expect(
      engines('engine: native\nlisteners: [{address: "0.0.0.0:80", engine: uws}, {address: "0.0.0.0:81"}]'),
    ).toEqual(['uws', 'native'])
  })

  it('refuses doubles and unknown or internal defaults, warns about PROXY headers nobody may send', () => {
    const loaded = endpointsOf(
      `endpoints: [{name: shop, url: "http://shop.example", upstream: {url: 1}}, {name: inner, url: i.internal, upstream: {url: 1}}]
listeners: [{address: 0.0.0.0:80, proxy_protocol: true}, {address: 0.0.0.0:80}, {address: 0.0.0.0:81, default_endpoint: inner}, {address: 0.0.0.0:82, default_endpoint: shopp}]`,
    )
    expect(loaded.diagnostics.all.map(({ code, hint }) => [code, hint])).toEqual([
      ['NO_TRUSTED_PROXIES', undefined],
      ['DUPLICATE_LISTENER', undefined],
      ['UNKNOWN_ENDPOINT', undefined],
      ['UNKNOWN_ENDPOINT', 'did you mean shop?'],
    ])
  })
})

describe('substitutions', () => {
  const policy = { 'p.yaml': 'on_http_request: [{name: "$A $B $C"}]' }
  const settings = (text: string): string =>
    `endpoints: [{name: a, url: a.internal, upstream: {url: 1}, traffic_policy_file: p.yaml}]\nsubstitutions: ${text}`
  const nameOf = (text: string, environment = {}, files = {}): string => {
    const loaded = load({ 'gateway.yaml': settings(text), ...policy, ...files }, {}, environment)
    const rules = loaded.endpoints[0]?.policy?.node.entries[0]?.value
    const rule = rules?.kind === 'list' ? rules.items[0] : undefined
    const name = rule?.kind === 'map' ? rule.entries[0]?.value : undefined
    return name?.kind === 'scalar' ? name.text : ''
  }

  it('the environment wins over values, values over files', () => {
    const files = { 'n.env': 'A=file\nB=file\nC=file\n' }
    const text = '{files: [n.env], values: {B: value, C: value}, environment: [C]}'
    expect(nameOf(text, { C: 'env' }, files)).toBe('file value env')
    expect(nameOf(text, {}, files)).toBe('file value value')
  })

  it('a name of the environment that is nowhere set is an error; names are upper case', () => {
    expect(problems(load({ 'gateway.yaml': settings('{environment: [A]}'), ...policy }))[0]).toBe(
      'MISSING_VARIABLE the environment variable A is not set',
    )
    expect(problems(load({ 'gateway.yaml': settings('{values: {a: 1}}'), ...policy }))[0]).toContain('INVALID_VALUE')
    expect(problems(load({ 'gateway.yaml': settings('{files: [nope]}'), ...policy }))[0]).toContain('FILE_NOT_FOUND')
  })
})

describe('redis', () => {
  const url = (text: string, files = {}) => load({ 'gateway.yaml': `redis: ${text}`, ...files })

  it('takes the password from a file, percent-encoded', () => {
    const files = { pw: 'p@ss:word\n' }
    expect(url('{url: "redis://h:6379", password_file: pw}', files).settings.redis.url).toBe(
      'redis://:p%40ss%3Aword@h:6379',
    )
    expect(url('{url: "rediss+cluster://bob@h1,h2:7001/0", password_file: pw}', files).settings.redis.url).toBe(
      'rediss+cluster://bob:p%40ss%3Aword@h1,h2:7001/0',
    )
  })

  it('refuses two passwords, a password without url, and other urls, without showing them', () => {
    expect(problems(url('{url: "redis://u:x@h", password_file: pw}', { pw: 'y' }))[0]).toContain('PASSWORD_GIVEN_TWICE')
    expect(problems(url('{password_file: pw}', { pw: 'y' }))[0]).toContain(
      'MISSING_KEY redis.password_file needs redis.url',
    )
    expect(problems(url('{url: "http://u:secret@h"}'))).toEqual(['INVALID_REDIS_URL url is not a url of a Redis'])
  })
})

describe('sallyport http', () => {
  const files = { 'policy.yml': POLICY }

  it('is one agent endpoint with a listener from its url, without gateway.yaml', () => {
    const inline = { upstream: 'http://localhost:8000', url: 'http://localhost:8080', trafficPolicyFile: 'policy.yml' }
    const loaded = load({ ...files, 'gateway.yaml': 'nonsense: 1' }, { files: [], inline })
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints).toMatchObject([
      {
        name: 'command_line',
        kind: 'agent',
        url: { href: 'http://localhost:8080' },
        upstream: { targets: [{ name: 'localhost:8000' }] },
        policy: { origin: 'file' },
      },
    ])
    expect(loaded.settings.listeners.map(({ address }) => address)).toEqual(['127.0.0.1:8080'])
  })

  it('stands beside the endpoints of files that are named', () => {
    const gateway = 'endpoints: [{name: a, url: "http://a.example", upstream: {url: 1}}]\nlog_level: warn'
    const inline = { upstream: '8000', url: 'http://b.example', name: 'b', pooling: true, verifyUpstream: false }
    const loaded = load({ 'gateway.yaml': gateway }, { inline })
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints.map(({ name, pooling }) => [name, pooling])).toEqual([
      ['a', false],
      ['b', true],
    ])
    expect(loaded.settings.logLevel).toBe('warn')
  })

  it('errors show the command line', () => {
    const inline = { upstream: 'http://localhost:8000/x', url: 'http://localhost:8080/', trafficPolicyFile: 'nope.yml' }
    expect(rendered(load(files, { files: [], inline }))).toBe(
      [
        '<command line>:1:36: error: the url must not end in / [ERR_NGROK_9038]',
        '  1 | http http://localhost:8000/x --url http://localhost:8080/ --traffic-policy-file nope.yml',
        '    |                                    ^^^^^^^^^^^^^^^^^^^^^^',
        '  hint: write http://localhost:8080',
        '<command line>:1:81: error: nope.yml: no such file [FILE_NOT_FOUND]',
        '  1 | http http://localhost:8000/x --url http://localhost:8080/ --traffic-policy-file nope.yml',
        '    |                                                                                 ^^^^^^^^',
        '<command line>:1:6: error: the upstream url must not have a path, query or fragment (/x) [INVALID_UPSTREAM_URL]',
        '  1 | http http://localhost:8000/x --url http://localhost:8080/ --traffic-policy-file nope.yml',
        '    |      ^^^^^^^^^^^^^^^^^^^^^^^',
        '  hint: the request keeps its own path; the action url-rewrite changes it',
      ].join('\n'),
    )
  })
})

describe('H-63: upstreams that are listeners of the gateway', () => {
  const config = (listener: string, upstream: string): string =>
    `listeners: [{address: "${listener}"}]\nendpoints:\n  - {name: a, url: "http://a.test:8080", upstream: {url: "${upstream}"}}\n`

  it.each([
    ['127.0.0.1:8080', 'http://127.0.0.1:8080'],
    ['127.0.0.1:8080', 'http://localhost:8080'],
    ['127.0.0.1:8080', '8080'],
    ['[::1]:8080', 'http://[::1]:8080'],
    ['[::1]:8080', 'http://localhost:8080'],
    ['0.0.0.0:8080', 'http://127.0.0.1:8080'],
    ['0.0.0.0:8080', 'http://localhost:8080'],
    ['[::]:8080', 'http://127.0.0.9:8080'],
    ['[::]:8080', 'http://[::1]:8080'],
    ['192.0.2.1:8080', 'http://192.0.2.1:8080'],
  ])('%s, %s: refused', (listener, upstream) => {
    expect(rendered(endpointsOf(config(listener, upstream)))).toMatch(
      /^gateway\.yaml:3:12: error: the upstream \S+ is the gateway's own listener \S+ \[OWN_LISTENER\]/,
    )
  })

  it.each([
    ['127.0.0.1:8080', 'http://127.0.0.1:8081'],
    ['127.0.0.1:8080', 'http://127.0.0.2:8080'],
    ['127.0.0.1:8080', 'http://[::1]:8080'],
    ['0.0.0.0:8080', 'http://[::1]:8080'],
    ['0.0.0.0:8080', 'http://192.0.2.1:8080'],
    ['192.0.2.1:8080', 'http://localhost:8080'],
    ['0.0.0.0:8080', 'http://other.test:8080'],
  ])('%s, %s: not known', (listener, upstream) => {
    expect(problems(endpointsOf(config(listener, upstream)))).toEqual([])
  })

  it('one target of several; listeners that nobody wrote', () => {
    const text = config('127.0.0.1:8080', 'x').replace('url: "x"', 'targets: ["http://127.0.0.1:9000", 8080]')
    expect(rendered(endpointsOf(text))).toContain('OWN_LISTENER')
    const derived = endpointsOf('endpoints: [{name: a, url: "http://a.test:8080", upstream: {url: 8080}}]')
    expect(rendered(derived)).toContain('warning: the upstream localhost:8080')
  })
})

describe('H-60: upgrades beside WebSocket', () => {
  const config = (engine: string, upgrades: string): string =>
    `engine: ${engine}\nendpoints:\n  - {name: a, url: "http://a.test:8080", upstream: {url: 9000, upgrades: ${upgrades}}}\n`

  it('are names of protocols, of listeners with engine native', () => {
    const loaded = endpointsOf(config('native', '[SPDY/3.1, tcp]'))
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints[0]!.upstream!.traffic.upgrades).toEqual(['SPDY/3.1', 'tcp'])
    expect(rendered(endpointsOf(config('uws', '[tcp]')))).toContain(
      'the upgrades of a need a listener with engine: native',
    )
    expect(problems(endpointsOf(config('uws', '[]')))).toEqual([])
  })

  it.each(['h2c', 'h2', 'HTTP/2', 'http', '"a b"', '"a/b/c"', '""'])('%s is none', (protocol) => {
    expect(rendered(endpointsOf(config('native', `[${protocol}]`)))).toContain('must be a protocol of Upgrade')
  })
})
