/**
 * One download of a key set: deadline, size limit, redirect rule, conditional request.
 * Source: RFC 7517 §5, RFC 9110 §8.8, §10.2.3, §13.1.2; threats.md T-56; jwt-attacks jwks-scenarios.
 */

/** What an honest key set never reaches: 600 RSA keys. */
export const MAX_KEY_SET_BYTES = 256 * 1024
const MAX_REDIRECTS = 3
/** Longest Retry-After that is obeyed. */
const MAX_RETRY_AFTER_MS = 3_600_000

/** Whether plain http is allowed: to loopback addresses only, everywhere, or nowhere. */
export type AllowHttp = 'loopback' | boolean

export interface FetchKeySetOptions {
  readonly allowHttp: AllowHttp
  /** For the whole download, redirects included. */
  readonly timeoutMs: number
  /** `ETag` of the copy at hand. */
  readonly etag?: string | undefined
  /** Ends the download early. */
  readonly signal?: AbortSignal | undefined
}

export type FetchedKeySet =
  | { readonly kind: 'document'; readonly text: string; readonly etag: string | undefined }
  /** 304: the copy at hand is current. */
  | { readonly kind: 'unchanged' }

/** A download that brought no key set; `message` is one sentence for the log. */
export class KeySetFetchError extends Error {
  override readonly name = 'KeySetFetchError'
  /** The server asked for no further request for so long. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, retryAfterMs?: number) {
    super(message)
    this.retryAfterMs = retryAfterMs
  }
}

/**
 * Why a URL may not be fetched, or undefined when it may: http and https only, no user information, plain http only to
 * loopback unless allowed. The name `localhost` counts as loopback.
 */
export function keySetUrlProblem(text: string, allowHttp: AllowHttp): string | undefined {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return 'not a URL'
  }
  if (url.username !== '' || url.password !== '') return 'a URL with user name or password'
  if (url.protocol === 'https:') return undefined
  if (url.protocol !== 'http:') return `scheme ${url.protocol.slice(0, -1)} is not https or http`
  if (allowHttp === true || (allowHttp === 'loopback' && isLoopback(url.hostname))) return undefined
  return allowHttp === false
    ? 'plain http is not allowed (jwt.allow_http)'
    : 'plain http is allowed to loopback addresses only (jwt.allow_http)'
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/**
 * Downloads a key set. Only status 200 brings one; its content type is not looked at. Redirects are followed up to three
 * times and only within the same origin (scheme, host, port): a key service can never point the gateway at another host.
 * Certificates are checked as Node checks them; there is no switch against that. Throws KeySetFetchError.
 */
export async function fetchKeySet(url: string, options: FetchKeySetOptions): Promise<FetchedKeySet> {
  const problem = keySetUrlProblem(url, options.allowHttp)
  if (problem !== undefined) throw new KeySetFetchError(problem)
  const deadline = AbortSignal.timeout(options.timeoutMs)
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
  const headers: Record<string, string> = { accept: 'application/jwk-set+json, application/json' }
  if (options.etag !== undefined) headers['if-none-match'] = options.etag
  try {
    const response = await follow(new URL(url), headers, signal)
    if (response.status === 304) {
      await response.body?.cancel()
      if (options.etag === undefined) throw new KeySetFetchError('answered 304 although there is no copy at hand')
      return { kind: 'unchanged' }
    }
    if (response.status !== 200) {
      await response.body?.cancel()
      throw new KeySetFetchError(`answered ${response.status}`, retryAfterMs(response.headers.get('retry-after')))
    }
    return { kind: 'document', text: await readBounded(response), etag: response.headers.get('etag') ?? undefined }
  } catch (error) {
    if (error instanceof KeySetFetchError) throw error
    if (deadline.aborted) throw new KeySetFetchError(`no complete answer within ${options.timeoutMs} ms`)
    throw new KeySetFetchError(`not reachable (${causeOf(error)})`)
  }
}

async function follow(from: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  let url = from
  for (let redirects = 0; ; redirects++) {
    const response = await fetch(url.href, { headers, signal, redirect: 'manual' })
    const location = response.headers.get('location')
    if (response.status < 301 || response.status > 308 || response.status === 304 || location === null) return response
    await response.body?.cancel()
    if (redirects === MAX_REDIRECTS) throw new KeySetFetchError(`more than ${MAX_REDIRECTS} redirects`)
    const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined
    if (next === undefined || next.origin !== from.origin) {
      throw new KeySetFetchError('redirects to another origin, which is not followed')
    }
    url = next
  }
}

/** Reads what arrives after decompression, so that a small compressed body cannot grow without bound. */
async function readBounded(response: Response): Promise<string> {
  if (response.body === null) return ''
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length
    if (bytes > MAX_KEY_SET_BYTES) throw new KeySetFetchError(`larger than ${MAX_KEY_SET_BYTES} bytes`)
    chunks.push(chunk)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)) // takes a byte order mark off
  } catch {
    throw new KeySetFetchError('not UTF-8')
  }
}

/** RFC 9110 §10.2.3: seconds or a date. */
function retryAfterMs(text: string | null): number | undefined {
  if (text === null) return undefined
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now()
  return Number.isFinite(ms) && ms > 0 ? Math.min(ms, MAX_RETRY_AFTER_MS) : undefined
}

function causeOf(error: unknown): string {
  const cause = (error as { cause?: unknown }).cause ?? error
  const code = (cause as { code?: unknown }).code
  return typeof code === 'string' ? code : cause instanceof Error ? cause.message : 'unknown'
}
