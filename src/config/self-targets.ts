/** Upstreams that are listeners of this gateway: their requests would go in a circle. Source: operations.md H-63. */
import { isLoopbackHost } from './address.ts'
import type { Diagnostics } from './diagnostic.ts'
import type { EndpointDefinition } from './endpoint-definition.ts'
import type { ListenerSettings } from './settings.ts'

/**
 * Reports what is known without asking anybody: literal addresses and `localhost`. The rest ends at run time (H-57, 508).
 * `areDerived`: the listeners come of urls, which may be meant for another place.
 */
export function checkSelfTargets(
  endpoints: readonly EndpointDefinition[],
  listeners: readonly ListenerSettings[],
  areDerived: boolean,
  diagnostics: Diagnostics,
): void {
  for (const { upstream, span } of endpoints) {
    for (const target of upstream?.targets ?? []) {
      const own = listeners.find((listener) => leadsTo(listener, target.host, target.port))
      if (own === undefined) continue
      const text = `the upstream ${target.name} is the gateway's own listener ${own.address}`
      const hint = 'another endpoint is reached by forward-internal'
      if (areDerived) diagnostics.notServed('OWN_LISTENER', text, span, hint)
      else diagnostics.error('OWN_LISTENER', text, span, hint)
    }
  }
}

function leadsTo(listener: ListenerSettings, targetHost: string, targetPort: number): boolean {
  if (listener.port !== targetPort) return false
  const [here, there] = [bare(listener.host), bare(targetHost)]
  if (here === there) return true
  if (!isLoopback(there)) return false
  if (there === 'localhost') return isAny(here) || isLoopback(here)
  return here === '::' || (here === '0.0.0.0' && !there.includes(':'))
}

function bare(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host
}

function isAny(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

function isLoopback(host: string): boolean {
  return isLoopbackHost(host.includes(':') ? `[${host}]` : host)
}
