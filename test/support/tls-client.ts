/** A client over TLS that keeps its connection and tells what it was shown. */
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { parseAnswers, type RawAnswer } from './raw-client.ts'

export interface TlsClient {
  readonly socket: TLSSocket
  /** Serial number of the certificate that the handshake showed. */
  readonly serial: string
  readonly isClosed: boolean
  /** Sends bytes and waits for one more answer, the end of the connection, or two seconds. */
  ask(text: string): Promise<RawAnswer | undefined>
  destroy(): void
}

/** `servername: ''` names no host. Certificates are not verified unless asked for. Rejects when the handshake fails. */
export function openTls(port: number, options: ConnectionOptions = {}): Promise<TlsClient> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
    let received = ''
    let isClosed = false
    let answered = 0
    const wakers = new Set<() => void>()
    const wake = (): void => wakers.forEach((waker) => waker())
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => {
      received += text
      wake()
    })
    socket.on('close', () => {
      isClosed = true
      wake()
      reject(new Error('closed before the handshake was done'))
    })
    socket.on('error', reject)
    socket.once('secureConnect', () => {
      resolve({
        socket,
        serial: socket.getPeerCertificate().serialNumber,
        get isClosed() {
          return isClosed
        },
        async ask(text) {
          socket.write(text, 'latin1')
          await new Promise<void>((done) => {
            const check = (): void => {
              const whole = parseAnswers(received, isClosed).filter((answer) => answer.isComplete).length
              if (!isClosed && whole <= answered) return
              clearTimeout(timer)
              wakers.delete(check)
              done()
            }
            const timer = setTimeout(() => {
              wakers.delete(check)
              done()
            }, 2_000)
            wakers.add(check)
            check()
          })
          const answer = parseAnswers(received, isClosed)[answered]
          if (answer !== undefined) answered++
          return answer
        },
        destroy: () => socket.destroy(),
      })
    })
  })
}

/** Waits for the end of a connection, two seconds at most. */
export function ended(client: TlsClient): Promise<boolean> {
  return new Promise((resolve) => {
    if (client.isClosed) {
      resolve(true)
      return
    }
    const timer = setTimeout(() => resolve(client.isClosed), 2_000)
    client.socket.once('close', () => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}
