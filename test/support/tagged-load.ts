/**
 * A constant load of tagged requests: each asks for a path of its own and must get it back, so that an answer to another
 * request is noticed. What fails is kept with its time and cause.
 */
import { Agent, request } from 'node:http'

export interface TaggedFailure {
  /** `performance.now()` of the beginning and of the failure. */
  readonly startedAtMs: number
  readonly failedAtMs: number
  /** An error code, `status 502`, `cut` (the body ended early), or `foreign` (another request's answer). */
  readonly cause: string
}

export interface TaggedLoad {
  readonly answered: number
  readonly failures: readonly TaggedFailure[]
  /** Answers by the port of the upstream that made them. */
  readonly byUpstream: ReadonlyMap<string, number>
  stop(): Promise<void>
}

export interface TaggedLoadOptions {
  readonly connections: number
  /** Between two requests of a connection. */
  readonly pauseMs: number
  /** Every request on a connection of its own. */
  readonly fresh?: boolean
  readonly method?: 'GET' | 'POST'
}

export function startTaggedLoad(url: string, options: TaggedLoadOptions): TaggedLoad {
  const failures: TaggedFailure[] = []
  const byUpstream = new Map<string, number>()
  const state = { isStopped: false, answered: 0 }
  const once = (agent: Agent, tag: string): Promise<void> =>
    new Promise((resolve) => {
      const startedAtMs = performance.now()
      let isOver = false
      const end = (cause?: string): void => {
        if (isOver) return
        isOver = true
        if (cause === undefined) state.answered += 1
        else failures.push({ startedAtMs, failedAtMs: performance.now(), cause })
        resolve()
      }
      const headers = options.fresh === true ? { connection: 'close' } : {}
      const outgoing = request(`${url}/${tag}`, { agent, method: options.method ?? 'GET', headers }, (incoming) => {
        let body = ''
        incoming.setEncoding('utf8').on('data', (text: string) => (body += text))
        incoming.once('error', () => end('cut'))
        incoming.once('end', () => {
          if (!incoming.complete) return end('cut')
          if (incoming.statusCode !== 200) return end(`status ${incoming.statusCode}`)
          if (body !== `/${tag}`) return end('foreign')
          const port = String(incoming.headers['x-port'])
          byUpstream.set(port, (byUpstream.get(port) ?? 0) + 1)
          end()
        })
      })
      outgoing.setTimeout(20_000, () => {
        end('no answer within 20 s')
        outgoing.destroy()
      })
      outgoing.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
      outgoing.end(options.method === 'POST' ? tag : undefined)
    })
  const loops = Array.from({ length: options.connections }, async (_, connection) => {
    const agent = new Agent({ keepAlive: options.fresh !== true, maxSockets: 1 })
    for (let count = 0; !state.isStopped; count++) {
      await once(agent, `${options.method ?? 'GET'}-${connection}-${count}`)
      await new Promise((resolve) => {
        setTimeout(resolve, options.pauseMs)
      })
    }
    agent.destroy()
  })
  return {
    get answered() {
      return state.answered
    },
    failures,
    byUpstream,
    stop: async () => {
      state.isStopped = true
      await Promise.all(loops)
    },
  }
}

/** `3 × ECONNRESET, 1 × cut`, for what a drill prints. */
export function causesOf(failures: readonly TaggedFailure[]): string {
  const counts = new Map<string, number>()
  for (const { cause } of failures) counts.set(cause, (counts.get(cause) ?? 0) + 1)
  return [...counts].map(([cause, count]) => `${count} × ${cause}`).join(', ') || 'none'
}
