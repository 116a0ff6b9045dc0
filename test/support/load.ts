/** Steady load over kept connections, where every failure is kept with its time. */
import { Agent, request } from 'node:http'

export interface LoadFailure {
  /** `performance.now()` of the moment the request was begun. */
  readonly startedAtMs: number
  readonly reason: string
}

export interface Load {
  /** Requests that were answered with 200. */
  readonly answered: number
  readonly failures: readonly LoadFailure[]
  /** Bodies seen, with how often. */
  readonly bodies: ReadonlyMap<string, number>
  /** Lets requests in flight finish. */
  stop(): Promise<void>
}

export interface LoadOptions {
  /** Each sends its next request when the last is answered. */
  readonly connections: number
  /** After an answer; 0 = at once. */
  readonly pauseMs?: number
  /** Called for each answer; what it returns is a failure. */
  readonly check?: (connection: number, status: number, body: string) => string | undefined
}

export function startLoad(url: string, options: LoadOptions): Load {
  const failures: LoadFailure[] = []
  const bodies = new Map<string, number>()
  let answered = 0
  const state = { isStopped: false }

  const once = (agent: Agent, connection: number): Promise<void> =>
    new Promise((resolve) => {
      const startedAtMs = performance.now()
      const fail = (reason: string): void => {
        failures.push({ startedAtMs, reason })
        resolve()
      }
      const outgoing = request(url, { agent, timeout: 20_000 }, (incoming) => {
        let body = ''
        incoming.setEncoding('utf8').on('data', (text: string) => (body += text))
        incoming.once('error', (error) => fail(`answer: ${error.message}`))
        incoming.once('end', () => {
          if (!incoming.complete) return fail('answer: incomplete')
          const wrong = options.check?.(connection, incoming.statusCode ?? 0, body)
          if (wrong !== undefined || incoming.statusCode !== 200) return fail(wrong ?? `status ${incoming.statusCode}`)
          answered += 1
          bodies.set(body, (bodies.get(body) ?? 0) + 1)
          resolve()
        })
      })
      outgoing.once('timeout', () => outgoing.destroy(new Error('no answer within 20 s')))
      outgoing.once('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message))
      outgoing.end()
    })

  const loops = Array.from({ length: options.connections }, async (_, connection) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    while (!state.isStopped) {
      const before = failures.length
      await once(agent, connection)
      const pauseMs = failures.length > before ? 20 : (options.pauseMs ?? 0)
      if (pauseMs > 0) {
        await new Promise((resolve) => {
          setTimeout(resolve, pauseMs)
        })
      }
    }
    agent.destroy()
  })

  return {
    get answered() {
      return answered
    },
    failures,
    bodies,
    stop: async () => {
      state.isStopped = true
      await Promise.all(loops)
    },
  }
}
