/** An upstream that answers after a while, and knows what it was asked. */
import { createServer } from 'node:http'

export interface SlowUpstream {
  readonly url: string
  /** Requests that arrived. */
  started(): number
  /** Requests that were answered. */
  answered(): number
  close(): Promise<void>
}

/** Answers every request with 200 and its path, `delayMs` after it came. */
export async function startSlowUpstream(delayMs: number): Promise<SlowUpstream> {
  let started = 0
  let answered = 0
  const server = createServer((request, response) => {
    started += 1
    const timer = setTimeout(() => {
      answered += 1
      response.end(`slow ${request.url ?? ''}`)
    }, delayMs)
    response.once('close', () => clearTimeout(timer))
    request.resume()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  // it listens on a port
  const { port } = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${port}`,
    started: () => started,
    answered: () => answered,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
