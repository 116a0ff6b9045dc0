/**
 * Requests to identity providers: https only (plain http to loopback unless allowed), no redirect is followed, size and
 * number are bounded. The same rules as for key sets. Source: threats.md T-56; RFC 9700 §4.11.
 */
import type { LoginSettings } from '../config/settings.ts'
import { LoginError } from './login-error.ts'

/** What an honest metadata document, key set or token answer never reaches. */
const MAX_ANSWER_BYTES = 256 * 1024
/** Requests in flight, per worker. */
const MAX_IN_FLIGHT = 256
let inFlight = 0

export type EgressSettings = Pick<LoginSettings, 'allowHttp' | 'fetchTimeoutMs'>

/** Why a URL may not be asked; undefined when it may. */
export function egressProblem(text: string, allowHttp: LoginSettings['allowHttp']): string | undefined {
  if (!URL.canParse(text)) return 'not a URL'
  const url = new URL(text)
  if (url.username !== '' || url.password !== '') return 'a URL with user name or password'
  if (url.hash !== '') return 'a URL with a fragment'
  if (url.protocol === 'https:') return undefined
  if (url.protocol !== 'http:') return `scheme ${url.protocol.slice(0, -1)} is not https or http`
  if (allowHttp === true || (allowHttp === 'loopback' && isLoopback(url.hostname))) return undefined
  return allowHttp === false
    ? 'plain http is not allowed (login.allow_http)'
    : 'plain http is allowed to loopback addresses only (login.allow_http)'
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

export interface EgressRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array | URLSearchParams | undefined
  readonly signal?: AbortSignal | undefined
}

export interface EgressAnswer {
  readonly status: number
  readonly headers: Headers
  readonly body: Uint8Array
}

/**
 * One request, its answer read to the end. Answers 429 and 5xx are errors here already; all others are the caller's.
 * Throws LoginError.
 */
export async function ask(url: string, request: EgressRequest, settings: EgressSettings): Promise<EgressAnswer> {
  const problem = egressProblem(url, settings.allowHttp)
  const where = originOf(url)
  if (problem !== undefined) throw new LoginError('LOGIN_PROVIDER_UNREADABLE', `${where} is not asked: ${problem}`)
  if (inFlight >= MAX_IN_FLIGHT) throw new LoginError('LOGIN_TOO_MANY', 'too many requests to providers are open')
  const deadline = AbortSignal.timeout(settings.fetchTimeoutMs)
  const signal = request.signal === undefined ? deadline : AbortSignal.any([deadline, request.signal])
  inFlight += 1
  try {
    const response = await fetch(url, {
      method: request.method ?? 'GET',
      headers: request.headers ?? {},
      body: (request.body ?? null) as string | null, // of fetch's kinds of bodies, the ones above
      redirect: 'manual',
      signal,
    })
    const body = await readBounded(response, where)
    if (response.status === 429) throw new LoginError('LOGIN_PROVIDER_THROTTLES', `${where} answered 429`)
    if (response.status === 503) throw new LoginError('LOGIN_PROVIDER_BUSY', `${where} answered 503`)
    if (response.status >= 500) throw new LoginError('LOGIN_PROVIDER_FAILED', `${where} answered ${response.status}`)
    return { status: response.status, headers: response.headers, body }
  } catch (error) {
    if (error instanceof LoginError) throw error
    if (signal.aborted) {
      throw new LoginError('LOGIN_PROVIDER_TIMEOUT', `${where}: no complete answer in ${settings.fetchTimeoutMs} ms`)
    }
    throw new LoginError('LOGIN_PROVIDER_FAILED', `${where} is not reachable (${causeOf(error)})`)
  } finally {
    inFlight -= 1
  }
}

/** A JSON object, or LoginError. `accept401`: an answer 401 or 403 means that the token does not count any more. */
export async function askJson(url: string, headers: Readonly<Record<string, string>>, settings: EgressSettings) {
  const { status, body } = await ask(url, { headers: { accept: 'application/json', ...headers } }, settings)
  if (status === 401 || status === 403) throw new LoginError('LOGIN_REVOKED', `${originOf(url)} answered ${status}`)
  if (status !== 200) throw new LoginError('LOGIN_PROVIDER_UNREADABLE', `${originOf(url)} answered ${status}`)
  try {
    return JSON.parse(Buffer.from(body).toString('utf8')) as unknown
  } catch {
    throw new LoginError('LOGIN_PROVIDER_UNREADABLE', `${originOf(url)} did not answer JSON`)
  }
}

async function readBounded(response: Response, where: string): Promise<Uint8Array> {
  if (response.body === null) return new Uint8Array(0)
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length
    if (bytes > MAX_ANSWER_BYTES) {
      throw new LoginError('LOGIN_PROVIDER_UNREADABLE', `${where}: an answer larger than ${MAX_ANSWER_BYTES} bytes`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** What may be logged of a URL: paths and queries may hold secrets. */
export function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : 'a provider'
}

function causeOf(error: unknown): string {
  const cause = (error as { cause?: unknown }).cause ?? error
  const code = (cause as { code?: unknown }).code
  return typeof code === 'string' ? code : cause instanceof Error ? cause.message : 'unknown'
}
