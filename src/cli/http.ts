/**
 * `sallyport http ADDR --url …`: a gateway in front of one service, with the flags of ngrok's command.
 *
 * Source: kubernetes-objects.md §7 (the table of flags); operations.md O-07, O-14.
 */
import type { InlineEndpoint } from '../config/load.ts'
import { UsageError, type Arguments } from './arguments.ts'
import { configurationInput } from './configuration.ts'
import { START_FLAGS, startGateway } from './run.ts'
import { ACCOUNT_FLAGS, type Verb } from './verb.ts'

/** "write this action into the policy file instead". */
const asAction = (phase: string, type: string, config: string): string =>
  `use the traffic policy instead: ${phase}: [{actions: [{type: ${type}, config: ${config}}]}]`
const REQUEST = 'on_http_request'
const RESPONSE = 'on_http_response'

const REFUSED: Readonly<Record<string, string>> = {
  'traffic-policy-url': 'a policy is not fetched at start; save it in a file and give --traffic-policy-file',
  'upstream-proxy-protocol': 'PROXY headers are not sent to upstreams',
  'proxy-proto': 'PROXY headers are not sent to upstreams',
  'host-header': asAction(REQUEST, 'add-headers', '{headers: {host: VALUE}}'),
  crt: 'it belongs to tls endpoints; this command serves http',
  key: 'it belongs to tls endpoints; this command serves http',
  'mutual-tls-cas': 'it belongs to tls endpoints; this command serves http',
  subdomain: 'there is no ngrok domain here; give the whole address with --url',
  'remote-addr': 'it belongs to tcp endpoints; this command serves http',
  'app-protocol': 'use --upstream-protocol',
  'terminate-at': 'TLS ends where your TLS terminator stands',
  'websocket-tcp-converter': 'WebSockets are not turned into TCP',
  'basic-auth': asAction(REQUEST, 'basic-auth', '{credentials: ["user:password"]}'),
  'cidr-allow': asAction(REQUEST, 'restrict-ips', '{enforce: true, allow: [CIDR]}'),
  'cidr-deny': asAction(REQUEST, 'restrict-ips', '{enforce: true, deny: [CIDR]}'),
  'circuit-breaker': asAction(REQUEST, 'circuit-breaker', '{error_threshold: 0.5}'),
  compression: asAction(RESPONSE, 'compress-response', '{algorithms: [gzip]}'),
  oauth: asAction(REQUEST, 'oauth', '{provider: google}'),
  oidc: asAction(REQUEST, 'openid-connect', '{issuer_url: URL, client_id: ID, client_secret: SECRET}'),
  'request-header-add': asAction(REQUEST, 'add-headers', '{headers: {name: value}}'),
  'request-header-remove': asAction(REQUEST, 'remove-headers', '{headers: [name]}'),
  'response-header-add': asAction(RESPONSE, 'add-headers', '{headers: {name: value}}'),
  'response-header-remove': asAction(RESPONSE, 'remove-headers', '{headers: [name]}'),
  'ua-filter-allow': asAction(REQUEST, 'deny', '{}') + " with the expression !req.user_agent.raw.matches('…')",
  'ua-filter-deny': asAction(REQUEST, 'deny', '{}') + " with the expression req.user_agent.raw.matches('…')",
  'verify-webhook': asAction(REQUEST, 'verify-webhook', '{provider: NAME, secret: SECRET}'),
  'verify-webhook-secret': asAction(REQUEST, 'verify-webhook', '{provider: NAME, secret: SECRET}'),
}

/** `--oauth-…` and `--oidc-…` are parts of the same. */
for (const part of ['allow-domain', 'allow-email', 'client-id', 'client-secret', 'provider', 'scope']) {
  ;(REFUSED as Record<string, string>)[`oauth-${part}`] = REFUSED['oauth']!
}
for (const part of ['client-id', 'client-secret', 'scope'])
  (REFUSED as Record<string, string>)[`oidc-${part}`] = REFUSED['oidc']!

export const httpVerb: Verb = {
  name: 'http',
  aliases: [],
  summary:
    'Run a gateway in front of one service: `sallyport http 8000 --url http://localhost:8080 --traffic-policy-file policy.yml`.',
  operands: { usage: 'ADDR', min: 1, max: 1 },
  flags: {
    url: { type: 'text', value: 'URL', meaning: 'Address that clients use, such as http://localhost:8080. Needed.' },
    'traffic-policy-file': {
      type: 'text',
      value: 'FILE',
      aliases: ['policy-file'],
      meaning: 'Traffic policy (YAML or JSON).',
    },
    name: { type: 'text', value: 'NAME', meaning: 'Name of the endpoint in logs and metrics.' },
    binding: {
      type: 'text',
      value: 'BINDING',
      oneOf: ['public'],
      meaning: 'Only public makes sense for the one endpoint there is.',
    },
    'pooling-enabled': { type: 'switch', meaning: 'Whether another endpoint may have the same url.' },
    'upstream-protocol': {
      type: 'text',
      value: 'PROTOCOL',
      oneOf: ['http1'],
      meaning: 'Protocol spoken to the service.',
    },
    'upstream-tls-verify': {
      type: 'switch',
      meaning: 'Whether the certificate of an https service is verified (default true).',
    },
    'upstream-tls-verify-cas': {
      type: 'text',
      value: 'FILE',
      meaning: 'PEM file with the authorities to trust, instead of those of the system.',
    },
    domain: {
      type: 'text',
      value: 'HOST',
      aliases: ['hostname'],
      meaning: 'Old form of --url: the host alone, on port 80.',
    },
    scheme: {
      type: 'text',
      value: 'SCHEME',
      oneOf: ['http'],
      meaning: 'Scheme for --domain; TLS is not terminated here.',
    },
    description: {
      type: 'text',
      value: 'TEXT',
      meaning: 'Taken for compatibility; has no meaning here.',
      only: 'command-line',
    },
    metadata: {
      type: 'text',
      value: 'TEXT',
      meaning: 'Taken for compatibility; has no meaning here.',
      only: 'command-line',
    },
    inspect: {
      type: 'switch',
      meaning: 'Taken for compatibility; there is no request inspector.',
      only: 'command-line',
    },
    ...ACCOUNT_FLAGS,
    ...START_FLAGS,
  },
  refused: REFUSED,
  run: (given, surroundings) => {
    for (const flag of ['authtoken', 'region', 'inspect', 'description', 'metadata']) {
      if (given.text(flag) !== undefined) surroundings.err(`sallyport: --${flag} has no meaning here and is ignored\n`)
    }
    return startGateway({ ...configurationInput(given), inline: inlineEndpoint(given) }, given, surroundings)
  },
}

function inlineEndpoint(given: Arguments): InlineEndpoint {
  const domain = given.text('domain')
  const url = given.text('url') ?? (domain === undefined ? undefined : `http://${domain}`)
  if (url === undefined)
    throw new UsageError('--url is needed: the address that clients use, such as http://localhost:8080')
  const trafficPolicyFile = given.text('traffic-policy-file')
  const name = given.text('name')
  const pooling = given.switch('pooling-enabled')
  const verifyUpstream = given.switch('upstream-tls-verify')
  const upstreamCaFile = given.text('upstream-tls-verify-cas')
  return {
    upstream: given.operands[0] ?? '',
    url,
    ...(trafficPolicyFile === undefined ? {} : { trafficPolicyFile }),
    ...(name === undefined ? {} : { name }),
    ...(pooling === undefined ? {} : { pooling }),
    ...(verifyUpstream === undefined ? {} : { verifyUpstream }),
    ...(upstreamCaFile === undefined ? {} : { upstreamCaFile }),
  }
}
