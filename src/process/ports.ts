/**
 * Whether an address is free, asked before the workers share it: SO_REUSEPORT itself would let two gateways bind the
 * same port and take turns, silently (F-16).
 */
import { createServer } from 'node:net'

export interface ListenAddress {
  /** IP address or host name. */
  readonly host: string
  readonly port: number
}

/** `0.0.0.0:8080`, `[::1]:8080`. */
export function addressText(address: ListenAddress): string {
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}

/**
 * Takes the address exclusively and lets go of it again. Resolves with one sentence when it cannot be had, with
 * undefined when it is free.
 */
export function portProblem(address: ListenAddress): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(sentence(address, error)))
    server.listen({ host: address.host, port: address.port, exclusive: true }, () => {
      server.close(() => resolve(undefined))
    })
  })
}

function sentence(address: ListenAddress, error: NodeJS.ErrnoException): string {
  const where = addressText(address)
  switch (error.code) {
    case 'EADDRINUSE':
      return `port ${address.port} is in use: another program listens on ${where}`
    case 'EACCES':
      return `no permission to listen on ${where}: ports below 1024 need the capability CAP_NET_BIND_SERVICE`
    case 'EADDRNOTAVAIL':
      return `cannot listen on ${where}: this machine does not have that address`
    default:
      return `cannot listen on ${where}: ${error.message}`
  }
}
