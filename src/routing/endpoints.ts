/**
 * Which endpoint answers: by host for clients, by internal URL for `forward-internal`.
 *
 * Source: kubernetes-objects.md §2.3 (exact host, then the longest wildcard), §4 (pools: uniform random member).
 */
import type { CompiledPolicy } from '../policy/policy.ts'
import type { EndpointView } from '../expression/source.ts'
import type { RetrySettings } from '../config/upstream-settings.ts'
import type { Expression } from '../expression/expression.ts'
import type { TargetGroup } from '../upstream/balancer.ts'
import type { StickyCookie } from '../upstream/sticky-cookie.ts'

/** URL + policy + upstream; a cloud endpoint has no upstream. */
export interface Endpoint {
  readonly view: EndpointView
  readonly name: string
  readonly kind: 'agent' | 'cloud'
  readonly binding: 'public' | 'internal'
  readonly policy: CompiledPolicy
  /** Untrusted X-Forwarded-For is continued and X-Forwarded-Host kept, as ngrok does (O-69). */
  readonly appendsForwarded?: boolean | undefined
  readonly upstream: EndpointUpstream | undefined
}

/** The servers of an endpoint, and how requests are sent to them. */
export interface EndpointUpstream {
  readonly group: TargetGroup
  readonly retry: Omit<RetrySettings, 'on'> & { readonly on: ReadonlySet<number> }
  /** 0 = off (H-80). */
  readonly totalMs: number
  /** What requests are known by, when targets are chosen by that. */
  readonly hashKey: Expression | undefined
  readonly sticky: StickyCookie | undefined
  /** Protocols beside WebSocket that requests may upgrade to, lower case (H-60). */
  readonly upgrades: ReadonlySet<string>
}

export interface EndpointTable {
  /**
   * `host`: lower case, without trailing dot; IPv6 in brackets. `port`: of the Host field, else of the listener. The
   * pair wins, exact hosts before wildcards; a host whose port nobody names is found by the host alone, as other
   * proxies do (a gateway behind a published port sees ports that no URL of its configuration holds).
   */
  findPublic(host: string, port: number): Endpoint | undefined
  findInternal(scheme: string, host: string, port: number): Endpoint | undefined
  /** Somebody shares some address with this endpoint: who answers there is a matter of chance. */
  isPooled(endpoint: Endpoint): boolean
  readonly all: readonly Endpoint[]
}

type Pool = Endpoint[]

/** Names under which a `localhost` endpoint is reached as well; the listener decides who can get that far. */
const LOOPBACK_HOSTS = ['localhost', '127.0.0.1', '[::1]']

/** Endpoints with the same host and port form a pool; the loader has refused those that may not. */
export function endpointTable(endpoints: readonly Endpoint[]): EndpointTable {
  /** Port → host. */
  const publicPools = new Map<number, Map<string, Pool>>()
  const publicByHost = new Map<string, Pool>()
  const internalPools = new Map<string, Pool>()
  const publicWildcards = new Set<string>()
  const internalWildcards = new Set<string>()
  for (const endpoint of endpoints) {
    const { host, port, protocol } = endpoint.view
    if (endpoint.binding === 'internal') {
      const key = host.startsWith('*.') ? host.slice(1) : host
      if (host.startsWith('*.')) internalWildcards.add(key)
      addTo(internalPools, `${protocol}:${key}:${port}`, endpoint)
      continue
    }
    const hosts = LOOPBACK_HOSTS.includes(host) ? LOOPBACK_HOSTS : [host]
    for (const name of hosts) {
      const key = name.startsWith('*.') ? name.slice(1) : name
      if (name.startsWith('*.')) publicWildcards.add(key)
      let hostsOfPort = publicPools.get(port)
      if (hostsOfPort === undefined) publicPools.set(port, (hostsOfPort = new Map()))
      const pool = addTo(hostsOfPort, key, endpoint)
      // by host alone: the pool of the first port that names the host
      if (!publicByHost.has(key)) publicByHost.set(key, pool)
    }
  }
  const pools = [...[...publicPools.values()].flatMap((hosts) => [...hosts.values()]), ...internalPools.values()]
  const pooled = new Set(pools.filter((pool) => pool.length > 1).flat())
  return {
    all: endpoints,
    isPooled: (endpoint) => pooled.has(endpoint),
    findPublic: (host, port) =>
      member(publicPools.get(port)?.get(host)) ??
      wildcard(host, publicWildcards, (suffix) => member(publicPools.get(port)?.get(suffix))) ??
      member(publicByHost.get(host)) ??
      wildcard(host, publicWildcards, (suffix) => member(publicByHost.get(suffix))),
    findInternal: (scheme, host, port) =>
      member(internalPools.get(`${scheme}:${host}:${port}`)) ??
      wildcard(host, internalWildcards, (key) => member(internalPools.get(`${scheme}:${key}:${port}`))),
  }
}

function addTo(pools: Map<string, Pool>, key: string, endpoint: Endpoint): Pool {
  let pool = pools.get(key)
  if (pool === undefined) pools.set(key, (pool = []))
  pool.push(endpoint)
  return pool
}

function member(pool: Pool | undefined): Endpoint | undefined {
  if (pool === undefined || pool.length === 1) return pool?.[0]
  return pool[Math.floor(Math.random() * pool.length)]
}

/** The longest suffix first: `a.b.example.com` tries `.b.example.com`, then `.example.com`, then `.com`. */
function wildcard(
  host: string,
  known: ReadonlySet<string>,
  find: (suffix: string) => Endpoint | undefined,
): Endpoint | undefined {
  if (known.size === 0) return undefined
  for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
    const suffix = host.slice(dot)
    const found = known.has(suffix) ? find(suffix) : undefined
    if (found !== undefined) return found
  }
  return undefined
}
