/**
 * `forward-internal`: hands the request to an internal endpoint, whose policy and upstream take over. Terminating,
 * unless `on_error: continue` and it cannot be delivered; then publishes `forward_internal.*`.
 * Source: traffic-policy.md §5.8; kubernetes-objects.md §2, §4.
 */
import type { TextSource } from '../config/node.ts'
import { described, optional, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Template } from '../expression/template.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import type { EndpointTable } from '../routing/endpoints.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action } from './action.ts'

interface Config {
  readonly url: TextSource
  readonly on_error: 'halt' | 'continue'
  readonly binding: string | undefined
}

interface InternalUrl {
  readonly scheme: 'http' | 'https'
  readonly host: string
  readonly port: number
}

interface Plan {
  readonly url: Template
  /** Parsed once when the URL is constant. */
  readonly constant: InternalUrl | undefined
  readonly onError: 'halt' | 'continue'
  /** What a constant URL leads to, and in which endpoints that was looked up. */
  readonly last: { endpoints: EndpointTable | undefined; outcome: Outcome | undefined }
}

export const forwardInternal: Action<Config, Plan> = {
  type: 'forward-internal',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object({
    url: described(policyKit.text(), 'URL of an internal endpoint; may hold `${…}`.'),
    on_error: described(
      withDefault(policyKit.enumeration(['halt', 'continue'] as const), 'halt'),
      '`continue`: go on with the next action when the endpoint is unknown or cannot be reached.',
    ),
    // documented in 2024, ignored since
    binding: described(optional(policyKit.enumeration(['internal'] as const)), 'Only `internal` exists.'),
  }),
  terminates: (config) => config.on_error === 'halt',
  compile(config, context) {
    const url = context.template(config.url)
    if (url === undefined) return undefined
    const constant = url.constant === undefined ? undefined : parseInternalUrl(url.constant)
    if (typeof constant === 'string') {
      context.diagnostics.error('ERR_NGROK_2226', constant, config.url.span)
      return undefined
    }
    return { url, constant, onError: config.on_error, last: { endpoints: undefined, outcome: undefined } }
  },
  run(plan, exchange) {
    const { last } = plan
    const { endpoints } = exchange.snapshot
    if (last.outcome !== undefined && last.endpoints === endpoints) return last.outcome
    const url = plan.constant ?? renderUrl(plan, exchange)
    if (typeof url === 'string') return undelivered(plan, exchange, url, 'ERR_NGROK_2226', 'not an internal URL')
    const endpoint = endpoints.findInternal(url.scheme, url.host, url.port)
    if (endpoint === undefined) {
      const text = `${url.scheme}://${url.host}:${url.port}`
      return undelivered(plan, exchange, text, 'ERR_NGROK_3200', 'endpoint offline')
    }
    const outcome: Outcome = { kind: 'forward', endpoint, onError: plan.onError }
    // of a pool another member may be next
    if (plan.constant !== undefined && !endpoints.isPooled(endpoint)) {
      last.endpoints = endpoints
      last.outcome = outcome
    }
    return outcome
  },
}

/** The URL, or the text that is none. A failed interpolation fails closed (§4: `url` is security-relevant). */
function renderUrl(plan: Plan, exchange: Exchange): InternalUrl | string {
  let text: string
  try {
    text = plan.url.render(exchange)
  } catch (error) {
    throw new GatewayError('INTERPOLATION_FAILED', { cause: error })
  }
  const url = parseInternalUrl(text)
  return typeof url === 'string' ? text : url
}

function undelivered(plan: Plan, exchange: Exchange, url: string, code: string, message: string): Outcome {
  if (plan.onError === 'halt') throw new GatewayError('ENDPOINT_OFFLINE')
  exchange.setResult('forward_internal', { url, error: { code, message } })
  return NEXT
}

/** `[http[s]://]name.internal[:port]`, or what is wrong with it. No scheme means https (kubernetes-objects.md §2.1). */
export function parseInternalUrl(text: string): InternalUrl | string {
  const match = /^(?:([a-z]+):\/\/)?([^/:?#@\s]+)(?::(\d{1,5}))?(\/.*)?$/i.exec(text.trim())
  if (match === null) return `${JSON.stringify(text)} is not the URL of an internal endpoint`
  const scheme = (match[1] ?? 'https').toLowerCase()
  // group 2 always takes part in a match
  const host = match[2]!.toLowerCase()
  if (scheme !== 'http' && scheme !== 'https')
    return `an http endpoint forwards to http and https endpoints, not to ${scheme}`
  if (!host.endsWith('.internal')) return `${host} does not end in .internal`
  if (match[4] !== undefined) return 'the URL of an internal endpoint has no path'
  const port = match[3] === undefined ? (scheme === 'http' ? 80 : 443) : Number(match[3])
  if (port < 1 || port > 65_535) return `${port} is not a port`
  return { scheme, host, port }
}
