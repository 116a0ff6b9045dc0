/** HTTP requests of the demo, over real sockets, and the access log they leave. */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const agent = new Agent({ keepAlive: true, maxSockets: 16 })

/** Sends one request to the gateway; the answer has status, headers and the body as text. */
export function send(port, path, { method = 'GET', token, headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        agent,
        host: '127.0.0.1',
        port,
        path,
        method,
        headers: {
          host: `localhost:${port}`,
          accept: 'application/json',
          'user-agent': 'sallyport-demo/1',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...headers,
        },
      },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (part) => (text += part))
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: text }))
        response.on('error', reject)
      },
    )
    sent.on('error', reject)
    sent.end(body)
  })
}

/** The access record of a request id; the log is written a moment after the answer. */
export async function recordOf(logFile, requestId) {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    for (const line of readFileSync(logFile, 'utf8').split('\n')) {
      if (line.includes(requestId)) return JSON.parse(line)
    }
    await sleep(20)
  }
  throw new Error(`no access record for ${requestId}`)
}

export function closeConnections() {
  agent.destroy()
}
