/**
 * The listener for operators: health, metrics, status, reload. It runs in the primary, on a port of its own, and no
 * route leads to it (T-77).
 *
 * Without a token it takes loopback addresses only, checks `Host` (a browser that was led here by a name of the
 * attacker's gets 403: DNS rebinding) and refuses writes that come from another origin. With a token everything but
 * the health paths asks for it.
 *
 * Source: operations.md O-36 … O-39, O-46; threats.md T-77, T-78.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { CONTENT_TYPES, negotiateFormat, type ExpositionFormat } from '../metrics/exposition.ts'

export interface AdminAddress {
  readonly host: string
  readonly port: number
}

/** What the admin listener shows and does; the primary implements it. */
export interface AdminSubject {
  /** Empty = ready. */
  notReadyReasons(): readonly string[]
  readonly hasBeenReady: boolean
  status(): unknown
  exposition(format: ExpositionFormat): Promise<string>
  reload(): Promise<{ readonly ok: boolean; readonly message: string }>
  /** Endpoints with an upstream. */
  endpoints(): readonly unknown[]
  /** The targets of an endpoint, by id or name; undefined when there is no such one. */
  targets(endpoint: string): Promise<readonly unknown[] | undefined>
  /** Another text whenever something of the endpoint was drained or undrained. */
  targetsVersion(endpoint: string): string | undefined
  /** `name`: an endpoint, or `endpoint/target`. */
  drain(name: string, isDrained: boolean): { readonly ok: boolean; readonly message: string }
}

export interface AdminOptions {
  readonly address: AdminAddress
  /** Asked for as `Authorization: Bearer …`; needed when the address is not loopback. */
  readonly token?: string | undefined
  readonly subject: AdminSubject
}

export interface AdminServer {
  /** Where it listens: differs from what was asked for only when that was port 0. */
  readonly port: number
  close(): void
}

/** The admin listener cannot be had; `message` is one sentence. */
export class AdminError extends Error {
  override readonly name = 'AdminError'
}

const HEALTH_PATHS = new Set(['/livez', '/readyz', '/startupz', '/healthz'])

/** Starts listening. Rejects with AdminError when the address is taken, or open to others without a token. */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const { address, token } = options
  if (!isLoopback(address.host) && token === undefined) {
    throw new AdminError(
      `the admin listener may not listen on ${address.host} without a token: set SALLYPORT_ADMIN_TOKEN (or SALLYPORT_ADMIN_TOKEN_FILE), or use 127.0.0.1`,
    )
  }
  const server = createServer({ maxHeaderSize: 16 * 1024, requestTimeout: 10_000, headersTimeout: 10_000 })
  server.maxConnections = 256
  server.on('request', (request, response) => {
    handle(request, response, options).catch(() => {
      // T-78: no detail leaves
      if (!response.headersSent) problem(response, 500, 'Internal Server Error', 'the request could not be answered')
      else response.destroy()
    })
  })
  await listen(server, address)
  server.on('error', () => undefined)
  const bound = server.address()
  return {
    port: bound === null || typeof bound === 'string' ? address.port : bound.port,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

function listen(server: Server, { host, port }: AdminAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? `port ${port} is in use` : error.message
      reject(new AdminError(`the admin listener cannot listen on ${host}:${port}: ${why}`, { cause: error }))
    })
    // the primary of a cluster listens like any process; `exclusive` says so
    server.listen({ host, port, exclusive: true }, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}

async function handle(request: IncomingMessage, response: ServerResponse, options: AdminOptions): Promise<void> {
  request.resume()
  const { subject } = options
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
  if (!isHostAllowed(request.headers.host, options)) {
    problem(response, 403, 'Forbidden', 'the Host of this request is not an address of the admin listener')
    return
  }
  if (!HEALTH_PATHS.has(path) && !isAuthorized(request.headers.authorization, options.token)) {
    response.setHeader('www-authenticate', 'Bearer realm="sallyport admin"')
    problem(response, 401, 'Unauthorized', 'a token is needed')
    return
  }
  if (path === '/api/reload') {
    if (!allowMethods(request, response, ['POST'])) return
    if (isCrossOrigin(request)) {
      problem(response, 403, 'Forbidden', 'writes from another origin are refused')
      return
    }
    const result = await subject.reload()
    json(response, result.ok ? 200 : 409, result)
    return
  }
  const target = targetPath(path)
  if (target !== undefined) {
    await handleTargets(request, response, subject, target)
    return
  }
  if (!allowMethods(request, response, ['GET', 'HEAD'])) return
  switch (path) {
    case '/livez':
      json(response, 200, { status: 'alive' })
      return
    case '/readyz':
    case '/healthz': {
      const reasons = subject.notReadyReasons()
      json(response, reasons.length === 0 ? 200 : 503, {
        status: reasons.length === 0 ? 'ready' : 'not ready',
        reasons,
      })
      return
    }
    case '/startupz':
      json(response, subject.hasBeenReady ? 200 : 503, { status: subject.hasBeenReady ? 'started' : 'starting' })
      return
    case '/metrics': {
      const format = negotiateFormat(request.headers.accept)
      send(response, 200, CONTENT_TYPES[format], await subject.exposition(format))
      return
    }
    case '/api/endpoints':
      json(response, 200, subject.endpoints())
      return
    case '/api/status':
      json(response, 200, subject.status())
      return
    default:
      problem(response, 404, 'Not Found', 'there is no such path on the admin listener')
  }
}

interface TargetPath {
  readonly endpoint: string
  /** '' = all of them. */
  readonly target: string
  readonly verb: 'targets' | 'drain' | 'undrain'
}

/** `/api/endpoints/{id}/targets`, `/api/endpoints/{id}/drain`, `/api/endpoints/{id}/targets/{target}/drain`, and undrain. */
function targetPath(path: string): TargetPath | undefined {
  const match = /^\/api\/endpoints\/([^/]+)\/(?:(targets)|(?:targets\/([^/]+)\/)?(drain|undrain))$/.exec(path)
  if (match === null) return undefined
  const [, endpoint = '', list, target = '', verb] = match
  try {
    return {
      endpoint: decodeURIComponent(endpoint),
      target: decodeURIComponent(target),
      verb: list === undefined ? (verb as 'drain' | 'undrain') : 'targets',
    }
  } catch {
    // a broken percent-escape: no such path
    return undefined
  }
}

/** O-38: how targets are, and draining them; `ETag` and `If-Match` guard a write. */
async function handleTargets(
  request: IncomingMessage,
  response: ServerResponse,
  subject: AdminSubject,
  { endpoint, target, verb }: TargetPath,
): Promise<void> {
  if (!allowMethods(request, response, verb === 'targets' ? ['GET', 'HEAD'] : ['POST'])) return
  if (verb !== 'targets' && isCrossOrigin(request)) {
    problem(response, 403, 'Forbidden', 'writes from another origin are refused')
    return
  }
  const version = subject.targetsVersion(endpoint)
  if (version === undefined) {
    problem(response, 404, 'Not Found', 'no endpoint with an upstream has this id or name')
    return
  }
  if (verb === 'targets') {
    const targets = await subject.targets(endpoint)
    response.setHeader('etag', `"${version}"`)
    json(response, 200, targets)
    return
  }
  const wanted = request.headers['if-match']
  if (wanted !== undefined && wanted !== '*' && !wanted.includes(`"${version}"`)) {
    problem(response, 412, 'Precondition Failed', 'it was changed meanwhile; read it again')
    return
  }
  const result = subject.drain(target === '' ? endpoint : `${endpoint}/${target}`, verb === 'drain')
  response.setHeader('etag', `"${subject.targetsVersion(endpoint) ?? version}"`)
  json(response, result.ok ? 200 : 404, result)
}

/** Whether the address can be reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

/**
 * Loopback without a token: `Host` must be an address or `localhost`, never a name that someone else's DNS answers for.
 * With a token the token decides.
 */
function isHostAllowed(host: string | undefined, { address, token }: AdminOptions): boolean {
  if (token !== undefined) return true
  const name = (host ?? '').replace(/:\d{1,5}$/, '').toLowerCase()
  const plain = name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name
  return isLoopback(plain) || plain === address.host.toLowerCase()
}

function isAuthorized(header: string | undefined, token: string | undefined): boolean {
  if (token === undefined) return true
  const given = /^bearer +(\S+)$/i.exec(header ?? '')?.[1]
  // equal lengths for the constant-time comparison
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return given !== undefined && timingSafeEqual(digest(given), digest(token))
}

/** A browser says where a write comes from; programs do not. */
function isCrossOrigin(request: IncomingMessage): boolean {
  const site = request.headers['sec-fetch-site']
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return true
  const { origin, host } = request.headers
  return origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`
}

function allowMethods(request: IncomingMessage, response: ServerResponse, methods: readonly string[]): boolean {
  if (methods.includes(request.method ?? '')) return true
  response.setHeader('allow', methods.join(', '))
  problem(response, 405, 'Method Not Allowed', `this path knows ${methods.join(' and ')}`)
  return false
}

function json(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json; charset=utf-8', `${JSON.stringify(value)}\n`)
}

/** RFC 9457. */
function problem(response: ServerResponse, status: number, title: string, detail: string): void {
  const body = { type: 'about:blank', title, status, detail }
  send(response, status, 'application/problem+json; charset=utf-8', `${JSON.stringify(body)}\n`)
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  const bytes = Buffer.from(body)
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': bytes.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  // node leaves the body out for HEAD
  response.end(bytes)
}
