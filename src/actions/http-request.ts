/**
 * `http-request`: asks a service and publishes what it said. `.internal` urls run the internal endpoint's policy; others
 * are asked only where `http_request.external` allows it. `timeout` covers all attempts and redirects; an answer has
 * 256 KiB at most, decoded. Ends the phase only with `on_error: halt`. Publishes `http_request.*`.
 *
 * The service gets what the policy names, and besides `ngrok-req-id`, `x-forwarded-for`, `user-agent` and `via`: nothing
 * of the client's own fields. Credentials do not follow a redirect to another origin. Source: traffic-policy.md §5.9.
 */
import { decodeBody, isPlain } from '../body/decoded-body.ts'
import type { TextSource } from '../config/node.ts'
import { described, INVALID, optional, policyKit, transform, withDefault } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { MessageHead } from '../exchange/message-head.ts'
import { newRequestId } from '../exchange/request-ids.ts'
import { celFromJson } from '../expression/convert.ts'
import type { Expression } from '../expression/expression.ts'
import type { JsonValue } from '../expression/source.ts'
import type { Template } from '../expression/template.ts'
import { type OutboundAnswer, OutboundError } from '../outbound/answer.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { type ErrorCode, ERRORS, type ErrorEntry, GatewayError } from '../response/gateway-error.ts'
import type { Action, CompileContext } from './action.ts'
import { compileHeaders, headerMap, type HeaderPlan, headerValue } from './header-values.ts'

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD'] as const
type Method = (typeof METHODS)[number]

const MAX_QUERY_PARAMETERS = 32
const MAX_KEY_LENGTH = 128
const MAX_VALUE_LENGTH = 8192
const MAX_ANSWER_BYTES = 256 * 1024
const MAX_RETRIES = 3
/** Requests that led to requests, beyond which 3603. */
const MAX_DEPTH = 3

interface Config {
  readonly url: TextSource
  readonly method: Method
  readonly query_params: readonly { readonly key: string; readonly value: TextSource }[]
  readonly headers: ReadonlyMap<string, TextSource> | undefined
  readonly body: TextSource | undefined
  readonly max_redirects: number
  readonly timeout: number
  readonly retry_condition: TextSource | undefined
  readonly on_error: 'halt' | 'continue'
}

interface Plan {
  readonly url: Template
  readonly method: Method
  readonly query: readonly { readonly key: string; readonly value: Template }[]
  readonly headers: readonly HeaderPlan[]
  readonly body: Template | undefined
  readonly maxRedirects: number
  readonly timeoutMs: number
  readonly retryCondition: Expression | undefined
  readonly onError: 'halt' | 'continue'
}

const queryParameters = transform(
  policyKit.list(
    policyKit.object({
      key: described(policyKit.string({ minLength: 1, maxLength: MAX_KEY_LENGTH, code: 'ERR_NGROK_2245' }), 'Name.'),
      value: described(policyKit.text(), 'Value; may hold `${…}`.'),
    }),
  ),
  (list, { node, diagnostics }) => {
    if (list.length <= MAX_QUERY_PARAMETERS) return list
    diagnostics.error('ERR_NGROK_2244', `at most ${MAX_QUERY_PARAMETERS} query_params are allowed`, node.span)
    return INVALID
  },
)

export const httpRequest: Action<Config, Plan> = {
  type: 'http-request',
  phases: ['on_http_request', 'on_http_response'],
  configRequired: true,
  schema: policyKit.object({
    url: described(
      policyKit.text(),
      'URL; may hold `${…}`. A host that ends in `.internal` is an endpoint of this gateway.',
    ),
    method: described(withDefault(policyKit.enumeration(METHODS), 'GET'), 'Method.'),
    query_params: described(
      withDefault(queryParameters, []),
      'Query parameters as a list of `key` and `value`, added to those of `url`.',
    ),
    headers: described(optional(headerMap()), 'Header fields; values may hold `${…}`.'),
    body: described(optional(policyKit.text()), 'Body; may hold `${…}`.'),
    max_redirects: described(withDefault(policyKit.integer({ min: 0, max: 100 }), 0), 'Redirects that are followed.'),
    timeout: described(
      withDefault(policyKit.durationMs({ minMs: 1000, maxMs: 30_000 }), 3000),
      'Longest time for all tries and redirects together.',
    ),
    retry_condition: described(optional(policyKit.expressionText()), 'Expression: whether to try again.'),
    on_error: described(
      withDefault(policyKit.enumeration(['halt', 'continue'] as const), 'continue'),
      '`halt`: answer the request with the error; `continue`: only the result has it.',
    ),
  }),
  compile(config, context) {
    const url = context.template(config.url)
    const query = config.query_params.flatMap(({ key, value }) => {
      const compiled = compileValue(value, context)
      return compiled === undefined ? [] : [{ key, value: compiled }]
    })
    const headers = config.headers === undefined ? [] : compileHeaders(config.headers, context)
    const body = config.body === undefined ? undefined : context.template(config.body)
    const retry =
      config.retry_condition === undefined
        ? undefined
        : context.expression(config.retry_condition, ['attempts', 'last_attempt'])
    if (
      url === undefined ||
      query.length < config.query_params.length ||
      headers === undefined ||
      (config.body !== undefined && body === undefined) ||
      (config.retry_condition !== undefined && retry === undefined) ||
      !checkUrl(url, config.url, context)
    ) {
      return undefined
    }
    return {
      url,
      method: config.method,
      query,
      headers,
      body,
      maxRedirects: config.max_redirects,
      timeoutMs: config.timeout,
      retryCondition: retry,
      onError: config.on_error,
    }
  },
  async run(plan, exchange) {
    const request = renderRequest(plan, exchange)
    const signal = AbortSignal.timeout(plan.timeoutMs)
    const attempts: Attempt[] = []
    for (;;) {
      const attempt = await attemptOnce(plan, exchange, request, signal)
      if (exchange.finished) return NEXT
      attempts.push(attempt)
      const failed = attempt.error !== undefined || attempt.status >= 400
      if (!failed || signal.aborted || attempts.length > MAX_RETRIES) break
      if (!shouldRetry(plan, exchange, attempts.length, attempt)) break
    }
    return publish(plan, exchange, attempts)
  },
}

/** A constant value is short enough; undefined after errors. */
function compileValue(source: TextSource, context: CompileContext): Template | undefined {
  const value = context.template(source)
  if (value?.constant === undefined || value.constant.length <= MAX_VALUE_LENGTH) return value
  context.diagnostics.error('ERR_NGROK_2246', `a value has at most ${MAX_VALUE_LENGTH} characters`, source.span)
  return undefined
}

function checkUrl(url: Template, source: TextSource, { diagnostics, settings }: CompileContext): boolean {
  if (url.constant === undefined) return true
  const parsed = parseUrl(url.constant)
  if (typeof parsed === 'string') {
    diagnostics.error('ERR_NGROK_2226', parsed, source.span, 'write a whole url: https://service.internal/path')
    return false
  }
  if (!isInternal(parsed) && !settings.httpRequest.external) {
    const hint = 'set http_request.external in gateway.yaml, or ask an internal endpoint'
    diagnostics.warning(
      'EXTERNAL_REQUESTS_OFF',
      `${parsed.host} is not asked: external urls are off`,
      source.span,
      hint,
    )
  }
  return true
}

function parseUrl(text: string): URL | string {
  const url = tryUrl(text.trim())
  if (url === null) return `${JSON.stringify(text)} is not a url`
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return `only http and https urls can be asked`
  if (url.username !== '' || url.password !== '') return 'a url must not hold credentials; use the header authorization'
  return url
}

function tryUrl(text: string): URL | null {
  try {
    return new URL(text)
  } catch {
    return null
  }
}

function isInternal(url: URL): boolean {
  return url.hostname.endsWith('.internal')
}

// ── one request ──

interface Request {
  readonly method: Method
  readonly url: URL
  /** `name: value\r\n` lines of the policy. */
  readonly lines: string
  readonly body: Uint8Array
}

interface Attempt {
  /** What was asked last: redirects change it. */
  readonly request: Request
  /** 0 = no answer. */
  readonly status: number
  readonly head: MessageHead | undefined
  readonly body: string
  readonly address: string
  readonly durationMs: number
  readonly error: { readonly code: ErrorCode; readonly message: string } | undefined
}

const NO_BODY = new Uint8Array(0)

/** The url fails closed; the rest becomes empty with a trace (§4). */
function renderRequest(plan: Plan, exchange: Exchange): Request {
  let url: URL | string
  try {
    url = parseUrl(plan.url.render(exchange))
  } catch (error) {
    throw new GatewayError('INTERPOLATION_FAILED', { cause: error })
  }
  if (typeof url === 'string') throw new GatewayError('INTERPOLATION_FAILED', { cause: `url: ${url}` })
  for (const { key, value } of plan.query) {
    url.searchParams.append(key, renderText(value, `query_params.${key}`, exchange).slice(0, MAX_VALUE_LENGTH))
  }
  url.hash = ''
  let lines = ''
  for (const header of plan.headers) {
    const value = headerValue(header, exchange)
    if (value !== undefined) lines += `${header.name}: ${value}\r\n`
  }
  const takesBody = plan.body !== undefined && plan.method !== 'GET' && plan.method !== 'HEAD'
  const body = takesBody ? Buffer.from(renderText(plan.body, 'body', exchange)) : NO_BODY
  return { method: plan.method, url, lines, body }
}

function renderText(template: Template, field: string, exchange: Exchange): string {
  try {
    return template.render(exchange)
  } catch (error) {
    exchange.interpolationFailed(field, error)
    return ''
  }
}

/** One attempt with its redirects. Never rejects. */
async function attemptOnce(plan: Plan, exchange: Exchange, first: Request, signal: AbortSignal): Promise<Attempt> {
  let request = first
  const startedAtMs = performance.now()
  const failed = (code: ErrorCode, message: string = ERRORS[code].message): Attempt => ({
    request,
    status: 0,
    head: undefined,
    body: '',
    address: '',
    durationMs: performance.now() - startedAtMs,
    error: { code, message },
  })
  try {
    for (let redirects = 0; ; redirects += 1) {
      const answer = await ask(exchange, request, signal, isInternal(first.url))
      const head = new MessageHead(answer.head)
      const next = plan.maxRedirects === 0 ? undefined : redirected(request, answer.status, head)
      if (next === undefined) {
        const body = await textOf(answer, head)
        const durationMs = performance.now() - startedAtMs
        return { request, status: answer.status, head, body, address: answer.address, durationMs, error: undefined }
      }
      if (redirects >= plan.maxRedirects) return failed('HTTP_REQUEST_REDIRECTS')
      request = next
    }
  } catch (error) {
    if (error instanceof GatewayError) return failed(error.code)
    if (!(error instanceof OutboundError)) throw error
    return failed(OUTBOUND_CODES[error.kind], error.message)
  }
}

const OUTBOUND_CODES: Record<OutboundError['kind'], ErrorCode> = {
  failed: 'HTTP_REQUEST_FAILED',
  timeout: 'HTTP_REQUEST_TIMEOUT',
  too_large: 'HTTP_REQUEST_TOO_LARGE',
  refused: 'HTTP_REQUEST_REFUSED',
}

/** `mayBeInternal`: only a policy names internal endpoints; an outside service that redirects there is not followed. */
function ask(
  exchange: Exchange,
  request: Request,
  signal: AbortSignal,
  mayBeInternal: boolean,
): Promise<OutboundAnswer> {
  const { url, method, body } = request
  const { snapshot, services } = exchange
  const settings = snapshot.settings.httpRequest
  const via = exchange.head.all('via')
  const own = `sallyport (${services.instanceId})`
  // a request that came back to us through the network is as much a loop as one that never left
  if (exchange.depth >= MAX_DEPTH || via.join(',').split(own).length > MAX_DEPTH) {
    throw new GatewayError('HTTP_REQUEST_LOOP')
  }
  const head = new MessageHead(
    `${method} ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\n${request.lines}`,
  )
  if (!head.has('user-agent')) head.add('user-agent', settings.userAgent)
  head.set('x-forwarded-for', exchange.client.address)
  head.set('ngrok-req-id', newRequestId(Date.now()))
  if (isInternal(url)) {
    if (!mayBeInternal) throw new GatewayError('HTTP_REQUEST_REFUSED')
    const protocol = url.protocol === 'https:' ? 'https' : 'http'
    const port = url.port === '' ? (protocol === 'https' ? 443 : 80) : Number(url.port)
    const endpoint = snapshot.endpoints.findInternal(protocol, url.hostname, port)
    if (endpoint === undefined) throw new GatewayError('ENDPOINT_OFFLINE')
    // set by the spine for every exchange
    return exchange.subrequests!.subrequest(exchange, {
      endpoint,
      head: head.text,
      body,
      maxAnswerBytes: MAX_ANSWER_BYTES,
      signal,
    })
  }
  if (!settings.external) throw new GatewayError('HTTP_REQUEST_REFUSED')
  head.add('via', [...via, `1.1 ${own}`].join(', '))
  return services.external.ask(
    { url, head: head.text, body, maxAnswerBytes: MAX_ANSWER_BYTES, allowPrivate: settings.privateNetworks },
    signal,
  )
}

/** Where a redirect leads (RFC 9110 §15.4); undefined when the answer is none. */
function redirected(request: Request, status: number, head: MessageHead): Request | undefined {
  const location = head.first('location')
  if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return undefined
  let url: URL | string
  try {
    url = parseUrl(new URL(location, request.url).href)
  } catch {
    return undefined
  }
  if (typeof url === 'string') throw new GatewayError('HTTP_REQUEST_REFUSED')
  url.hash = ''
  const becomesGet = status === 303 ? request.method !== 'HEAD' : status < 303 && request.method === 'POST'
  let { lines } = request
  const fields = new MessageHead(`\r\n${lines}`)
  // nothing that proves who we are goes to somebody else
  if (url.origin !== request.url.origin) for (const name of ['authorization', 'cookie', 'host']) fields.remove(name)
  if (becomesGet) for (const name of ['content-type', 'content-encoding']) fields.remove(name)
  lines = fields.lines
  return { method: becomesGet ? 'GET' : request.method, url, lines, body: becomesGet ? NO_BODY : request.body }
}

async function textOf(answer: OutboundAnswer, head: MessageHead): Promise<string> {
  const coding = head.first('content-encoding')
  let { body } = answer
  if (coding !== undefined && !isPlain(coding) && body.length > 0) {
    const decoded = await decodeBody(coding, { bytes: body, complete: true }, MAX_ANSWER_BYTES)
    if (decoded.kind !== 'decoded') throw new OutboundError('failed', `the answer's content coding is ${decoded.kind}`)
    if (!decoded.complete) throw new GatewayError('HTTP_REQUEST_TOO_LARGE')
    body = decoded.bytes
  }
  return Buffer.from(body).toString()
}

// ── what became of it ──

function shouldRetry(plan: Plan, exchange: Exchange, attempts: number, attempt: Attempt): boolean {
  if (plan.retryCondition === undefined) return false
  const last = {
    req: requestResult(attempt.request),
    res: responseResult(attempt),
    error: attempt.error?.message ?? '',
  }
  exchange.locals = new Map([
    ['attempts', BigInt(attempts)],
    ['last_attempt', celFromJson(last)],
  ])
  try {
    return plan.retryCondition.test(exchange)
  } catch (error) {
    exchange.interpolationFailed('retry_condition', error)
    return false
  } finally {
    exchange.locals = undefined
  }
}

function publish(plan: Plan, exchange: Exchange, attempts: readonly Attempt[]): Outcome {
  const last = attempts.at(-1)! // there is one at least
  exchange.setResult('http_request', {
    attempts: attempts.map((attempt) => ({
      resolved_ip: attempt.address,
      response_header: fieldsResult(attempt.head),
      response_status_code: attempt.status,
      response_time_ms: attempt.durationMs.toFixed(0),
    })),
    req: requestResult(last.request),
    ...(last.head !== undefined && { res: responseResult(last) }),
    ...(last.error !== undefined && { error: { code: codeOf(last.error.code), message: last.error.message } }),
  })
  if (last.error === undefined) return NEXT
  exchange.services.logger.warn(
    { request_id: exchange.requestId, host: last.request.url.host, error: last.error.message },
    'http-request failed',
  )
  if (plan.onError === 'halt') throw new GatewayError(last.error.code, { cause: last.error.message })
  return NEXT
}

function codeOf(code: ErrorCode): string {
  const entry: ErrorEntry = ERRORS[code]
  return entry.ngrok === undefined ? `ERR_GW_${entry.gw}` : `ERR_NGROK_${entry.ngrok}`
}

function requestResult({ method, url, lines, body }: Request): JsonValue {
  return {
    method,
    header: fieldsResult(new MessageHead(`\r\n${lines}`)),
    url: url.href,
    body: Buffer.from(body).toString(),
  }
}

/** Both spellings of the status: the documentation has one in results and the other in its retry example. */
function responseResult(attempt: Attempt): JsonValue {
  return {
    resolved_ip: attempt.address,
    header: fieldsResult(attempt.head),
    status_code: attempt.status,
    statusCode: attempt.status,
    time_ms: attempt.durationMs.toFixed(0),
    body: attempt.body,
  }
}

/** Name → values, as in `req.headers`. */
function fieldsResult(head: MessageHead | undefined): JsonValue {
  if (head === undefined) return {}
  return Object.fromEntries(head.names().map((name) => [name, head.all(name)]))
}
