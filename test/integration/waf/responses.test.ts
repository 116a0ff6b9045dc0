/**
 * What leaves before the verdict of owasp-crs-response: nothing of a body that is inspected, everything at once of one
 * that is not. Raw sockets on both sides (issue 4, "Correctness" and "What people need"; T-47).
 */
import type { Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OWN_RULES } from '../../support/own-rules.ts'
import { openRaw, type RawConnection } from '../../support/raw-client.ts'
import { type RawUpstream, startRawUpstream } from '../../support/raw-upstream.ts'
import { type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const MARK = 'PAGE-BYTES'

let gateway: RunningGateway
let server: RawUpstream
/** What the upstream does with a request. */
let serve: (socket: Socket) => void = () => undefined

beforeAll(async () => {
  server = await startRawUpstream((socket) => {
    socket.on('data', () => serve(socket))
  })
  gateway = await startGateway({
    config: ({ port }) => `
workers: 1
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: web }]
waf: { rules: ${OWN_RULES} }
endpoints:
  - name: web
    url: http://web.test:${port}
    upstream: { url: "${server.url}" }
    traffic_policy:
      on_http_response: [{ actions: [{ type: owasp-crs-response, config: { process_body: true } }] }]
`,
  })
})

afterAll(async () => {
  await gateway?.stop()
  server?.close()
})

async function ask(): Promise<RawConnection> {
  const connection = await openRaw(gateway.port)
  connection.send('GET / HTTP/1.1\r\nHost: web.test\r\nUser-Agent: t\r\n\r\n')
  return connection
}

const page = (bytes: number, end: string): string => `${MARK}${'.'.repeat(bytes - MARK.length - end.length)}${end}`

describe('a blocked response never leaves', () => {
  for (const bytes of [130, 8 * 1024, 512 * 1024]) {
    for (const framing of ['content-length', 'chunked'] as const) {
      it(`${bytes} bytes, ${framing}: neither a header nor a byte of it`, async () => {
        let beforeTheEnd = 'not asked'
        let connection: RawConnection | undefined
        serve = (socket) => {
          const body = page(bytes, 'a leak')
          const field = framing === 'chunked' ? 'transfer-encoding: chunked' : `content-length: ${bytes}`
          socket.write(`HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nx-internal: ${MARK}\r\n${field}\r\n\r\n`)
          const whole = framing === 'chunked' ? `${bytes.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body
          // all but the last byte is there for a while before the end comes
          socket.write(whole.slice(0, -1))
          setTimeout(() => {
            beforeTheEnd = connection?.received ?? ''
            socket.write(whole.slice(-1))
          }, 150)
        }
        connection = await ask()
        const [answer] = await connection.answers(1)
        expect(beforeTheEnd).toBe('')
        expect(answer?.status).toBe(403)
        expect(answer?.field('ngrok-error-code')).toBe('ERR_NGROK_3702')
        expect(connection.received).not.toContain(MARK)
        expect(connection.received).not.toContain('leak')
        connection.destroy()
      })

      it(`${bytes} honest bytes, ${framing}: whole`, async () => {
        serve = (socket) => {
          const body = page(bytes, 'fine')
          const field = framing === 'chunked' ? 'transfer-encoding: chunked' : `content-length: ${bytes}`
          const whole = framing === 'chunked' ? `${bytes.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body
          socket.write(`HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n${field}\r\n\r\n${whole}`)
        }
        const connection = await ask()
        const [answer] = await connection.answers(1)
        expect([answer?.status, answer?.body.length]).toEqual([200, bytes])
        expect(answer?.body.endsWith('fine')).toBe(true)
        connection.destroy()
      })
    }
  }

  it('a rule on the head alone blocks before any of the body was waited for', async () => {
    serve = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: image/png\r\nx-leaks: yes\r\ncontent-length: 9\r\n\r\n')
    }
    const connection = await ask()
    const [answer] = await connection.answers(1)
    expect(answer?.status).toBe(403)
    expect(connection.received).not.toContain('x-leaks')
    connection.destroy()
  })
})

describe('what is not inspected is not held back', () => {
  for (const [name, fields] of [
    ['an event stream', 'content-type: text/event-stream\r\n'],
    ['a type that is not in the list', 'content-type: application/octet-stream\r\n'],
    ['no type', ''],
  ] as const) {
    it(`${name}: the first piece is there before the second is sent`, async () => {
      let upstream: Socket | undefined
      serve = (socket) => {
        upstream = socket
        socket.write(`HTTP/1.1 200 OK\r\n${fields}transfer-encoding: chunked\r\n\r\n9\r\nfirst leak`.slice(0, -1))
        socket.write('\r\n')
      }
      const connection = await ask()
      for (const until = performance.now() + 5000; !connection.received.includes('first lea');) {
        if (performance.now() > until) throw new Error('the first piece did not come while the second was not sent')
        // oxlint-disable-next-line no-await-in-loop -- polling
        await new Promise((resolve) => {
          setTimeout(resolve, 10)
        })
      }
      expect(connection.received).not.toContain('second')
      upstream?.write('6\r\nsecond\r\n0\r\n\r\n')
      const [answer] = await connection.answers(1)
      expect(answer).toMatchObject({ status: 200, body: 'first leasecond', isComplete: true })
      connection.destroy()
    })
  }
})
