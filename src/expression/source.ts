/**
 * What expressions may read of one exchange. `exchange/exchange.ts` implements it; the expression folder never sees
 * an exchange.
 *
 * Source: traffic-policy.md §6.
 */
import type { AddressFacts } from '../address-data/address-facts.ts'
import type { CelValue } from './value.ts'

export type PhaseName = 'on_tcp_connect' | 'on_http_request' | 'on_http_response' | 'on_event_stream_message'

/** Results of actions and claims of tokens: plain JSON trees. Integral numbers read as int, others as double (§7.3). */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** Results of actions by name. */
export interface ResultView extends Iterable<readonly [string, JsonValue]> {
  get(name: string): JsonValue | undefined
}

export interface VariableSource {
  readonly connection: ConnectionView
  readonly endpoint: EndpointView
  /** Absent in `on_tcp_connect`. */
  readonly request: RequestView | undefined
  /** Present in `on_http_response` and `on_event_stream_message` only. */
  readonly response: ResponseView | undefined
  /** `vars.*` of the running phase. */
  readonly variables: ReadonlyMap<string, CelValue>
  /** `actions.ngrok.<name>` in snake case, as the action left it. */
  readonly results: ResultView
  /** Names that a single expression sees besides these (ExpressionEnvironment.locals). */
  readonly locals?: ReadonlyMap<string, CelValue> | undefined
}

/** §6.2 and what is known of §6.3, §6.4. */
export interface ConnectionView {
  readonly clientAddress: string
  readonly clientPort: number
  readonly serverAddress: string
  readonly serverPort: number
  readonly serverRegion: string
  /** What databases know of an address; absent without any. */
  readonly addressData?: ((address: string) => AddressFacts) | undefined
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Absent on plain connections. */
  readonly tls: TlsView | undefined
}

/** A text, a list of texts, a time in milliseconds since the epoch, or the extensions of a certificate. */
export type TlsValue =
  | string
  | readonly string[]
  | number
  | readonly { readonly id: string; readonly critical: boolean; readonly value: Uint8Array }[]

/** §6.4. */
export interface TlsView {
  /** By the dotted path below `conn.tls`; undefined = not known. */
  get(path: string): TlsValue | undefined
  /** PEM of the authorities that clients of the listener are verified against; '' = they are not asked. */
  readonly clientAuthorities: string
}

/** §6.6. */
export interface EndpointView {
  readonly id: string
  readonly url: string
  readonly host: string
  readonly port: number
  readonly protocol: 'http' | 'https' | 'tcp' | 'tls'
}

/** Header access common to both messages. Names in lower case; values in order; latin1 text. */
export interface HeaderView {
  /** Values of every line of that name, in order; empty when there is none. */
  all(name: string): readonly string[]
  has(name: string): boolean
  /** Distinct names in order of first appearance. */
  names(): readonly string[]
}

/** §6.7. The URL parts describe the current URL: `url-rewrite` has already changed them. */
export interface RequestView {
  readonly method: string
  /** Value of the Host field. */
  readonly host: string
  /** `HTTP/1.1`. */
  readonly version: string
  readonly headers: HeaderView
  readonly url: UrlView
  /** Absent (undefined) when unknown. */
  readonly contentLength: number | undefined
  readonly headReceivedAtMs: number
  readonly bodyReceivedAtMs: number | undefined
}

export interface UrlView {
  readonly scheme: string
  /** Without port; IPv6 in brackets. */
  readonly host: string
  readonly port: number | undefined
  readonly path: string
  /** Without `?`. */
  readonly query: string
  /** As received, before normalisation. */
  readonly raw: string
  readonly rawPath: string
}

/** §6.8. */
export interface ResponseView {
  readonly statusCode: number
  readonly headers: HeaderView
  readonly contentLength: number | undefined
}
