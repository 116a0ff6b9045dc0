/**
 * A small token issuer over real HTTP, for tests and for the demo: keys made at start, a JWKS, tokens good and bad.
 * Nothing here knows a test framework or the gateway.
 */
import { createHmac, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type IssuerAlgorithm = 'RS256' | 'RS384' | 'RS512' | 'PS256' | 'ES256' | 'ES384' | 'ES512' | 'EdDSA'

/** How the JWKS is served. `good` is the usual way; the others are faults. */
export type IssuerMode =
  | { readonly kind: 'good' }
  | { readonly kind: 'slow'; readonly delayMs: number }
  | {
      readonly kind: 'status'
      readonly status: number
      readonly headers?: Record<string, string>
      readonly body?: string
    }
  /** 200 with this body instead of the set. */
  | { readonly kind: 'garbage'; readonly body: string | Buffer; readonly headers?: Record<string, string> }
  | { readonly kind: 'redirect'; readonly location: string }
  /** Half of the body, then the connection is cut. */
  | { readonly kind: 'reset' }

export interface MintOptions {
  /** Which kind of key signs; default RS256. */
  readonly algorithm?: IssuerAlgorithm
  /** Added to or put in place of header members; undefined takes one away. */
  readonly header?: Record<string, unknown>
  /** Lifetime in seconds from now, default 300; negative makes an expired token. */
  readonly lifetimeSeconds?: number
  /** Changes the claims after signing. */
  readonly tampered?: boolean
  /** Signs with a key that is in no set, under the same kid. */
  readonly foreignKey?: boolean
}

interface IssuerKey {
  readonly algorithm: IssuerAlgorithm
  readonly keyId: string
  readonly privateKey: KeyObject
  readonly jwk: Record<string, unknown>
}

export interface TokenIssuerOptions {
  /** Default 0: any free port. */
  readonly port?: number
  /** Default 127.0.0.1. */
  readonly host?: string
  /** `iss` of the tokens; default: the base URL with a trailing slash. */
  readonly issuer?: string
  /** Default RS256 and ES256. */
  readonly algorithms?: readonly IssuerAlgorithm[]
  /** Begins with the keys of another issuer instead of new ones: RSA keys take their time. */
  readonly keysOf?: TokenIssuer
}

/** Starts an issuer; resolves when it listens. */
export async function startTokenIssuer(options: TokenIssuerOptions = {}): Promise<TokenIssuer> {
  const issuer = new TokenIssuer(options)
  await issuer.start()
  return issuer
}

export class TokenIssuer {
  /** Requests for the JWKS so far. */
  requests = 0
  mode: IssuerMode = { kind: 'good' }
  /** Sent with every good answer. */
  extraHeaders: Record<string, string> = {}
  /** With it, a request that names this tag is answered 304. */
  etag: string | undefined
  readonly #options: TokenIssuerOptions
  #keys: readonly IssuerKey[]
  readonly #foreign = new Map<IssuerAlgorithm, IssuerKey>()
  #generation = 1
  #server: Server | undefined
  #port: number

  constructor(options: TokenIssuerOptions = {}) {
    this.#options = options
    this.#port = options.port ?? 0
    this.#keys = options.keysOf === undefined ? this.#makeKeys() : options.keysOf.#keys
  }

  get baseUrl(): string {
    return `http://${this.#options.host ?? '127.0.0.1'}:${this.#port}`
  }

  /** What `iss` says. */
  get issuer(): string {
    return this.#options.issuer ?? `${this.baseUrl}/`
  }

  get jwksUrl(): string {
    return `${this.baseUrl}/.well-known/jwks.json`
  }

  /** The key set as it is published now. */
  get jwks(): { keys: Record<string, unknown>[] } {
    return { keys: this.#keys.map((key) => key.jwk) }
  }

  /** Listens; after stop() again on the same port. */
  async start(): Promise<void> {
    const server = createServer((request, response) => this.#answer(request, response))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, this.#options.host ?? '127.0.0.1', resolve)
    })
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  /** Stops listening and cuts every connection. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  }

  /** New keys under new kids; `keep` publishes the old ones as well. */
  rotate(options: { readonly keep?: boolean; readonly sameKeyIds?: boolean } = {}): void {
    if (options.sameKeyIds !== true) this.#generation++
    const fresh = this.#makeKeys()
    this.#keys = options.keep === true ? [...fresh, ...this.#keys] : fresh
  }

  /**
   * A signed token. `iss`, `iat` and `exp` are filled in unless the claims bring their own; a claim that is undefined is
   * left out.
   */
  mint(claims: Record<string, unknown> = {}, options: MintOptions = {}): string {
    const algorithm = options.algorithm ?? 'RS256'
    const key = this.#keys.find((candidate) => candidate.algorithm === algorithm)
    if (key === undefined) throw new Error(`this issuer has no ${algorithm} key`)
    const nowSeconds = Math.floor(Date.now() / 1000)
    const header = encode({ alg: algorithm, kid: key.keyId, typ: 'JWT', ...options.header })
    const body = { iss: this.issuer, iat: nowSeconds, exp: nowSeconds + (options.lifetimeSeconds ?? 300), ...claims }
    const payload = encode(body)
    const signature = signWith(options.foreignKey === true ? this.#foreignKey(algorithm) : key, `${header}.${payload}`)
    const sent = options.tampered === true ? encode({ ...body, sub: 'somebody-else', tampered: true }) : payload
    return `${header}.${sent}.${signature}`
  }

  #makeKeys(): IssuerKey[] {
    return (this.#options.algorithms ?? ['RS256', 'ES256']).map((algorithm) =>
      makeKey(algorithm, `${algorithm.toLowerCase()}-${this.#generation}`),
    )
  }

  #foreignKey(algorithm: IssuerAlgorithm): IssuerKey {
    const key = this.#foreign.get(algorithm) ?? makeKey(algorithm, 'foreign')
    this.#foreign.set(algorithm, key)
    return key
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url?.split('?', 1)[0]
    if (path !== '/.well-known/jwks.json') {
      response.writeHead(404).end()
      return
    }
    this.requests++
    const { mode } = this
    const text = JSON.stringify(this.jwks)
    switch (mode.kind) {
      case 'good':
        this.#serve(request, response, text)
        return
      case 'slow':
        setTimeout(() => this.#serve(request, response, text), mode.delayMs).unref()
        return
      case 'status':
        response.writeHead(mode.status, mode.headers).end(mode.body ?? '')
        return
      case 'garbage':
        response.writeHead(200, { 'content-type': 'application/json', ...mode.headers }).end(mode.body)
        return
      case 'redirect':
        response.writeHead(302, { location: mode.location }).end()
        return
      case 'reset':
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': text.length })
        response.write(text.slice(0, text.length >> 1), () => response.destroy())
    }
  }

  #serve(request: IncomingMessage, response: ServerResponse, text: string): void {
    if (this.etag !== undefined && request.headers['if-none-match'] === this.etag) {
      response.writeHead(304, { etag: this.etag }).end()
      return
    }
    const tag = this.etag === undefined ? {} : { etag: this.etag }
    response.writeHead(200, { 'content-type': 'application/jwk-set+json', ...tag, ...this.extraHeaders }).end(text)
  }
}

/** A token under HS256, for attacks that use a public key as a secret. */
export function mintHmac(
  header: Record<string, unknown>,
  claims: Record<string, unknown>,
  secret: string | Buffer,
): string {
  const input = `${encode({ alg: 'HS256', ...header })}.${encode(claims)}`
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
}

/** A token with any header and claims and a random signature of so many bytes. */
export function mintUnsigned(header: Record<string, unknown>, claims: Record<string, unknown>, bytes = 256): string {
  return `${encode(header)}.${encode(claims)}.${randomBytes(bytes).toString('base64url')}`
}

const HASH = {
  RS256: 'sha256',
  RS384: 'sha384',
  RS512: 'sha512',
  PS256: 'sha256',
  ES256: 'sha256',
  ES384: 'sha384',
  ES512: 'sha512',
}
const CURVE = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }

function makeKey(algorithm: IssuerAlgorithm, keyId: string): IssuerKey {
  const pair =
    algorithm === 'EdDSA'
      ? generateKeyPairSync('ed25519')
      : algorithm.startsWith('ES')
        ? generateKeyPairSync('ec', { namedCurve: CURVE[algorithm as keyof typeof CURVE] })
        : generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: keyId, alg: algorithm, use: 'sig' }
  return { algorithm, keyId, privateKey: pair.privateKey, jwk }
}

function signWith(key: IssuerKey, input: string): string {
  const data = Buffer.from(input)
  const { algorithm, privateKey } = key
  if (algorithm === 'EdDSA') return sign(null, data, privateKey).toString('base64url')
  if (algorithm.startsWith('ES')) {
    return sign(HASH[algorithm], data, { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')
  }
  // 6 is RSA_PKCS1_PSS_PADDING, -1 a salt as long as the hash
  const options = algorithm === 'PS256' ? { key: privateKey, padding: 6, saltLength: -1 } : privateKey
  return sign(HASH[algorithm], data, options).toString('base64url')
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
