/** AgentEndpoint, CloudEndpoint and NgrokTrafficPolicy from files (kubernetes-objects.md §5.0–5.3). */
import { describe, expect, it } from 'vitest'
import { load, problems, rendered } from './memory-files.ts'

const HEAD = 'apiVersion: ngrok.k8s.ngrok.com/v1alpha1\n'
const agent = (name: string, spec: string, metadata = ''): string =>
  `${HEAD}kind: AgentEndpoint\nmetadata: {name: ${name}${metadata}}\nspec: ${spec}\n`
const cloud = (name: string, spec: string, metadata = ''): string =>
  `${HEAD}kind: CloudEndpoint\nmetadata: {name: ${name}${metadata}}\nspec: ${spec}\n`
const policy = (name: string, spec: string, metadata = ''): string =>
  `${HEAD}kind: NgrokTrafficPolicy\nmetadata: {name: ${name}${metadata}}\nspec: ${spec}\n`
const DENY = '{on_http_request: [{actions: [{type: deny}]}]}'
const LISTENERS = 'listeners: [{address: 0.0.0.0:8080}]\n'

function manifests(...documents: string[]) {
  return load({ 'gateway.yaml': `${LISTENERS}manifests: [m.yaml]`, 'm.yaml': documents.join('---\n') })
}
const codes = (...documents: string[]): string[] => manifests(...documents).diagnostics.all.map(({ code }) => code)

describe('AgentEndpoint', () => {
  it('is url, upstream and policy; several documents per file; it always pools', () => {
    const loaded = manifests(
      agent('users', '{url: https://users.internal, upstream: {url: http://users.ns.svc:8080}}'),
      agent(
        'users-2',
        '{url: https://users.internal, upstream: {url: 9002, protocol: http1}, bindings: [internal], description: d, metadata: {owner: me}}',
        ', namespace: shop',
      ),
      agent(
        'open',
        `{url: http://a.example, upstream: {url: 9003}, trafficPolicy: {inline: ${DENY}}, metadata: '{"a": 1}'}`,
      ),
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints).toMatchObject([
      {
        name: 'users',
        kind: 'agent',
        binding: 'internal',
        pooling: true,
        upstream: { targets: [{ name: 'users.ns.svc:8080' }] },
      },
      { name: 'shop/users-2', binding: 'internal', pooling: true },
      { name: 'open', binding: 'public', policy: { origin: 'manifest' } },
    ])
  })

  it('a policy is either inline or referred to', () => {
    const spec = (trafficPolicy: string): string =>
      `{url: a.internal, upstream: {url: 1}, trafficPolicy: ${trafficPolicy}}`
    expect(codes(agent('a', spec('{targetRef: {name: p}}')), policy('p', `{policy: ${DENY}}`))).toEqual([])
    expect(codes(agent('a', spec('{}')))).toEqual(['MISSING_KEY'])
    expect(codes(agent('a', spec(`{inline: ${DENY}, targetRef: {name: p}}`)), policy('p', '{policy: {}}'))).toEqual([
      'POLICY_GIVEN_TWICE',
      'UNUSED_POLICY',
    ])
    expect(codes(agent('a', spec(`{policy: ${DENY}}`)))).toEqual(['UNKNOWN_KEY'])
  })

  it('references never leave the namespace; near names are suggested', () => {
    const spec = '{url: a.internal, upstream: {url: 1}, trafficPolicy: {targetRef: {name: limits}}}'
    const near = manifests(agent('a', spec), policy('limit', '{policy: {}}'))
    expect(near.diagnostics.all[0]).toMatchObject({ code: 'POLICY_NOT_FOUND', hint: 'did you mean limit?' })
    const far = manifests(agent('a', spec), policy('limits', '{policy: {}}', ', namespace: other'))
    expect(far.diagnostics.all[0]?.hint).toContain('there is one in the namespace other')
  })

  it('what this version cannot do is refused, never ignored', () => {
    const spec = (rest: string): string => `{url: a.internal, upstream: {url: 1${rest}}`
    expect(codes(agent('a', spec(', proxyProtocolVersion: "2"}')))).toEqual(['UNKNOWN_KEY'])
    expect(codes(agent('a', spec(', protocol: http2}')))).toEqual([])
    expect(codes(agent('a', spec(', protocol: h3}')))).toEqual(['ERR_NGROK_15003'])
    const refused = manifests(agent('a', spec('}, clientCertificateRefs: [{name: x}]')))
    expect(refused.diagnostics.all[0]).toMatchObject({ code: 'UPSTREAM_NOT_SERVED', refusesRun: true })
    expect(codes(agent('a', spec('}, tlsTermination: {}')))).toEqual(['UNKNOWN_KEY'])
    expect(codes(agent('a', spec('}, bindings: [cluster]')))).toEqual(['ERR_NGROK_15005'])
  })

  it('reports everything wrong in one object', () => {
    const loaded = manifests(`${HEAD}kind: AgentEndpoint
metadata: {name: a}
spec:
  urll: x
  upstream: {url: http://h/path}
  bindings: [public, internal]
  trafficPolicy: {inline: [1]}
`)
    expect(loaded.diagnostics.all.map(({ code }) => code)).toEqual([
      'UNKNOWN_KEY',
      'MISSING_KEY',
      'ERR_NGROK_15006',
      'ERR_NGROK_2236',
      'INVALID_UPSTREAM_URL',
    ])
  })
})

describe('CloudEndpoint', () => {
  const spec = (rest: string): string => `{url: http://c.example, ${rest}}`
  const origin = (...documents: string[]) => {
    const loaded = manifests(...documents)
    return [
      loaded.diagnostics.all.map(({ code }) => code),
      loaded.endpoints[0]?.policy?.node.entries.map(({ key }) => key),
    ]
  }
  const A = '{on_http_request: []}'
  const B = '{on_http_response: []}'

  it('takes its policy in every form', () => {
    expect(origin(cloud('c', spec(`trafficPolicy: {inline: ${A}}`)))).toEqual([[], ['on_http_request']])
    expect(origin(cloud('c', spec('trafficPolicy: {targetRef: {name: p}}')), policy('p', `{policy: ${A}}`))).toEqual([
      [],
      ['on_http_request'],
    ])
    expect(origin(cloud('c', spec(`trafficPolicy: {policy: ${A}}`)))).toEqual([[], ['on_http_request']])
    expect(origin(cloud('c', spec('trafficPolicyName: p')), policy('p', `{policy: ${A}}`))).toEqual([
      [],
      ['on_http_request'],
    ])
  })

  it('§5.2: inline and targetRef come before policy, and trafficPolicyName beside trafficPolicy is an error', () => {
    expect(origin(cloud('c', spec(`trafficPolicy: {inline: ${A}, policy: ${B}}`)))).toEqual([
      ['POLICY_NOT_READ'],
      ['on_http_request'],
    ])
    expect(
      origin(cloud('c', spec(`trafficPolicy: {inline: ${A}}, trafficPolicyName: p`)), policy('p', `{policy: ${B}}`)),
    ).toEqual([['POLICY_GIVEN_TWICE', 'UNUSED_POLICY'], ['on_http_request']])
  })

  it('without a policy it is invalid (18011); it has no upstream; pooling is off unless asked for', () => {
    expect(codes(cloud('c', '{url: http://c.example}'))).toEqual(['ERR_NGROK_18011'])
    expect(codes(cloud('c', spec('trafficPolicy: {}')))).toEqual(['ERR_NGROK_18011'])
    expect(codes(cloud('c', spec(`upstream: {url: 1}, trafficPolicy: {inline: ${A}}`)))).toEqual(['UNKNOWN_KEY'])
    const pooled = manifests(cloud('c', spec(`poolingEnabled: true, trafficPolicy: {inline: ${A}}`)))
    expect(pooled.endpoints[0]?.pooling).toBe(true)
    expect(
      codes(cloud('c', spec(`trafficPolicy: {inline: ${A}}`)), cloud('d', spec(`trafficPolicy: {inline: ${A}}`))),
    ).toEqual(['ERR_NGROK_18009'])
  })

  it('has its own codes for urls, and limits for labels', () => {
    const rest = `trafficPolicy: {inline: ${A}}`
    expect(codes(cloud('c', `{url: "https://", ${rest}}`))).toEqual(['ERR_NGROK_18001'])
    expect(codes(cloud('c', `{url: "ftp://a", ${rest}}`))).toEqual(['ERR_NGROK_18022'])
    expect(codes(cloud('c', `{${rest}}`))).toEqual(['MISSING_KEY'])
    expect(codes(cloud('c', spec(`${rest}, description: ${'x'.repeat(256)}`)))).toEqual(['ERR_NGROK_18012'])
    expect(codes(cloud('c', spec(`${rest}, metadata: ${'x'.repeat(4097)}`)))).toEqual(['ERR_NGROK_18013'])
  })
})

describe('objects', () => {
  it("other kinds are warned about; other programs' fields in them are not looked at", () => {
    const loaded = manifests(
      'apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [80], command: "$HOME"}\n',
      agent('a', '{url: a.internal, upstream: {url: 1}}'),
    )
    expect(problems(loaded)).toEqual(['UNKNOWN_KIND objects of kind Service are not read'])
    expect(loaded.endpoints).toHaveLength(1)
    expect(manifests('apiVersion: v1\nkind: AgentEndpiont\nmetadata: {name: s}\n').diagnostics.all[0]?.hint).toBe(
      'did you mean AgentEndpoint?',
    )
  })

  it('the planned group and kind are the same objects', () => {
    const loaded = manifests(
      agent('a', '{url: a.internal, upstream: {url: 1}, trafficPolicy: {targetRef: {name: p}}}').replace(
        'ngrok.k8s.ngrok.com/v1alpha1',
        'ngrok.com/v1',
      ),
      `apiVersion: ngrok.com/v1\nkind: TrafficPolicy\nmetadata: {name: p}\nspec: {policy: ${DENY}}\n`,
    )
    expect(problems(loaded)).toEqual([])
    expect(codes(agent('a', '{url: a.internal, upstream: {url: 1}}').replace('v1alpha1', 'v2'))).toEqual([
      'UNKNOWN_API_VERSION',
    ])
  })

  it('lists are taken apart', () => {
    const item = agent('a', '{url: a.internal, upstream: {url: 1}}').trimEnd().replaceAll('\n', '\n    ')
    const loaded = manifests(`apiVersion: v1\nkind: List\nitems:\n  - ${item}\n`)
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints).toHaveLength(1)
  })

  it('needs kind, name, spec; knows doubles; allows status and labels', () => {
    expect(codes('a: 1\n')).toEqual(['MISSING_KEY', 'MISSING_KEY'])
    expect(codes(`${HEAD}kind: AgentEndpoint\nspec: {}\n`)).toEqual(['MISSING_KEY'])
    expect(codes(`${HEAD}kind: AgentEndpoint\nmetadata: {name: a}\n`)).toEqual(['MISSING_KEY'])
    expect(
      codes(`${HEAD}kind: AgentEndpoint\nmetadata: {name: a}\nx: x\nspec: {url: a.internal, upstream: {url: 1}}\n`),
    ).toEqual(['UNKNOWN_KEY'])
    const one = agent('a', '{url: a.internal, upstream: {url: 1}}', ', labels: {x: y}, annotations: {}')
    expect(codes(one, one)).toEqual(['DUPLICATE_OBJECT'])
    expect(codes(`${one}status: {conditions: []}\n`)).toEqual([])
  })

  it('fields beside spec, as some published manifests have them, are read with a warning', () => {
    const loaded = manifests(
      `${HEAD}kind: CloudEndpoint\nmetadata: {name: c}\nspec: {url: http://c.example}\ntrafficPolicy: {inline: ${DENY}}\n`,
    )
    expect(problems(loaded)).toEqual([
      'MISPLACED_KEY trafficPolicy belongs under spec; it is read as if it stood there',
    ])
    expect(loaded.endpoints[0]?.policy?.node.entries).toHaveLength(1)
    const old = `apiVersion: ingress.k8s.ngrok.com/v1alpha1\nkind: NgrokTrafficPolicy\nmetadata: {name: p}\npolicy: ${DENY}\n`
    expect(
      codes(agent('a', '{url: a.internal, upstream: {url: 1}, trafficPolicy: {targetRef: {name: p}}}'), old),
    ).toEqual(['OLD_API_VERSION', 'MISPLACED_KEY'])
  })

  it('a policy that nobody refers to is a warning', () => {
    expect(codes(policy('p', `{policy: ${DENY}}`))).toEqual(['UNUSED_POLICY'])
  })

  it('$NAMES are replaced, in urls too, and positions stay', () => {
    const loaded = load({
      'gateway.yaml': 'manifests: [m.yaml]\nsubstitutions: {values: {HOST: "a.example/"}}',
      'm.yaml': agent('a', '{url: "http://$HOST", upstream: {url: 1}}'),
    })
    expect(rendered(loaded)).toBe(
      [
        'm.yaml:4:13: error: the url must not end in / [ERR_NGROK_9038]',
        '  4 | spec: {url: "http://$HOST", upstream: {url: 1}}',
        '    |             ^^^^^^^^^^^^^^',
        '  hint: write http://a.example',
      ].join('\n'),
    )
  })

  it('a file that is not there is an error at the setting', () => {
    expect(rendered(load({ 'gateway.yaml': 'manifests: [nope.yaml]' }))).toContain(
      'gateway.yaml:1:13: error: nope.yaml: no such file [FILE_NOT_FOUND]',
    )
  })
})

describe('the binding kubernetes', () => {
  const bound = (url: string, more = ''): string =>
    cloud('a', `{url: "${url}", bindings: [kubernetes], trafficPolicy: {inline: ${DENY}}${more}}`)

  it('parses and checks; run refuses it with a sentence', () => {
    const loaded = manifests(bound('http://orders.shop'))
    expect(loaded.diagnostics.all).toMatchObject([
      { code: 'BINDING_NOT_SERVED', severity: 'warning', refusesRun: true, hint: expect.stringContaining('internal') },
    ])
    expect(loaded.endpoints).toMatchObject([{ binding: 'kubernetes', url: { href: 'http://orders.shop' } }])
    // nobody outside the cluster asks for it, so it needs no certificate
    expect(codes(bound('https://orders.shop'))).toEqual(['BINDING_NOT_SERVED'])
    expect(codes(bound('tcp://orders.shop:5432'))).toEqual(['BINDING_NOT_SERVED'])
  })

  it.each(['http://orders', 'http://orders.shop.example', 'http://*.shop'])('%s is no name.namespace', (url) => {
    expect(codes(bound(url))).toContain('ERR_NGROK_9039')
  })
})

describe('Domain', () => {
  const domain = (spec: string, version = 'ingress.k8s.ngrok.com/v1alpha1'): string =>
    `apiVersion: ${version}\nkind: Domain\nmetadata: {name: d}\nspec: ${spec}\n`

  it('is checked and has no effect', () => {
    const loaded = manifests(
      domain(
        '{domain: shop.example.org, region: eu, resolvesTo: [{value: eu}], reclaimPolicy: Retain, description: d, metadata: {a: b}}',
      ),
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints).toEqual([])
    expect(codes(domain('{domain: "*.example.org", resolves_to: [{value: us}]}', 'ngrok.com/v1'))).toEqual([])
  })

  it.each([
    'https://shop.example.org',
    'shop.example.org:443',
    'shop.example.org/a',
    '10.0.0.1',
    'shop',
    'a.*.org',
    'a b.org',
  ])('%s is no domain', (name) => {
    const loaded = manifests(domain(`{domain: "${name}"}`))
    expect(loaded.diagnostics.all.map(({ code }) => code)).toEqual(['INVALID_DOMAIN'])
    expect(rendered(loaded)).toMatch(/^m\.yaml:4:\d+: error: /)
  })

  it('its fields and its version are checked', () => {
    expect(codes(domain('{}'))).toEqual(['MISSING_KEY'])
    expect(codes(domain('{domain: a.example, reclaimPolicy: Keep}'))).toEqual(['NOT_ONE_OF'])
    expect(codes(domain('{domain: a.example, domian: b}'))).toEqual(['UNKNOWN_KEY'])
    expect(codes(domain('{domain: a.example}', 'ngrok.k8s.ngrok.com/v1alpha1'))).toEqual(['UNKNOWN_API_VERSION'])
  })
})
