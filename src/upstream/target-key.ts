/** Which targets share connections: those that connect alike. Source: H-54, H-56. */
import type { UpstreamTarget } from '../listener/front-end.ts'

const keys = new WeakMap<UpstreamTarget, string>()

/** Connections are shared by targets with the same key; limits and timers do not matter for that. */
export function targetKey(target: UpstreamTarget): string {
  let key = keys.get(target)
  if (key === undefined) {
    const tls = target.tls
    key = JSON.stringify([
      target.protocol,
      target.host,
      target.port,
      target.http2 === true,
      target.addresses ?? null,
      tls === undefined ? null : [tls.verify, tls.ca ?? '', tls.serverName ?? ''],
    ])
    keys.set(target, key)
  }
  return key
}
