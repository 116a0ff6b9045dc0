/**
 * Opens connections to upstreams: TCP with a deadline, TLS with verification.
 *
 * Source: H-54 (SNI follows the upstream, never the request's Host), H-56, H-80.
 */
import { type LookupFunction, type Socket, type TcpNetConnectOpts, connect as connectTcp, isIP } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { UpstreamFailureReason, UpstreamTarget } from '../listener/front-end.ts'

/** Why no connection came about. */
export class ConnectError extends Error {
  readonly reason: UpstreamFailureReason

  constructor(reason: UpstreamFailureReason, detail: string, cause?: unknown) {
    super(detail, { cause })
    this.name = 'ConnectError'
    this.reason = reason
  }
}

/** Read buffer of a connection; also what waits in memory while the client does not read. */
const READ_BYTES = 64 * 1024

/**
 * Connects to a target. `done` is called once: with a socket that is ready for HTTP, or with a `ConnectError` whose
 * reason is `connect_failed`, `connect_timeout` or `tls_failed`.
 */
export function openConnection(
  target: UpstreamTarget,
  done: (error: ConnectError | null, socket: Socket | null) => void,
): void {
  const { host, port, tls } = target
  const secure = target.protocol === 'https'
  let reachable = false
  const socket: Socket = secure
    ? connectTls({
        host,
        port,
        ...lookupOf(target),
        // An address is not a name: SNI carries names only (RFC 6066 §3), verification then goes by address.
        ...(tls?.serverName !== undefined
          ? { servername: tls.serverName }
          : isIP(host) === 0
            ? { servername: host }
            : {}),
        ...(tls?.ca !== undefined ? { ca: tls.ca } : {}),
        rejectUnauthorized: tls?.verify ?? true,
        ALPNProtocols: [target.http2 === true ? 'h2' : 'http/1.1'],
        minVersion: 'TLSv1.2',
      })
    : connectTcp({ host, port, ...lookupOf(target), readableHighWaterMark: READ_BYTES } as TcpNetConnectOpts)
  socket.setNoDelay(true)
  socket.setKeepAlive(true, 60_000)
  let timer: NodeJS.Timeout | undefined
  const settle = (error: ConnectError | null): void => {
    clearTimeout(timer)
    socket.off('error', fail)
    if (error === null) {
      done(null, socket)
      return
    }
    socket.on('error', ignore)
    socket.destroy()
    done(error, null)
  }
  const fail = (error: Error): void => {
    settle(new ConnectError(secure && reachable ? 'tls_failed' : 'connect_failed', describe(error), error))
  }
  socket.once('connect', () => {
    reachable = true
  })
  socket.once(secure ? 'secureConnect' : 'connect', () => settle(null))
  socket.on('error', fail)
  if (target.timers.connectMs > 0) {
    timer = setTimeout(() => {
      settle(new ConnectError('connect_timeout', `no connection within ${target.timers.connectMs} ms`))
    }, target.timers.connectMs)
  }
}

/** A target whose addresses are known is not looked up again: they are tried in their order. */
function lookupOf({ addresses }: UpstreamTarget): { readonly lookup?: LookupFunction } {
  if (addresses === undefined) return {}
  const found = addresses.map((address) => ({ address, family: isIP(address) }))
  return {
    lookup: (_host, options, done) => {
      // a target has at least one address
      if (options.all === true) done(null, found)
      else done(null, found[0]!.address, found[0]!.family)
    },
  }
}

/** Several addresses that all failed give an AggregateError without a message of its own. */
function describe(error: Error & { code?: string }): string {
  if (error instanceof AggregateError) return error.errors.map(String).join('; ')
  return error.message === '' ? (error.code ?? error.name) : error.message
}

/** A socket that is being given up may still report an error; nobody waits for it any more. */
function ignore(): void {}
