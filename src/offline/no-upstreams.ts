/** The upstream pool of a configuration that serves nobody: every request that would leave the process fails to connect. */
import type { UpstreamTarget } from '../listener/front-end.ts'
import type { UpstreamHandler, UpstreamLeg, UpstreamPool, UpstreamRequest } from '../upstream/upstream-pool.ts'

const LEG: UpstreamLeg = {
  connectedAtMs: 0,
  connectionReused: false,
  write: () => true,
  end: () => {},
  pause: () => {},
  resume: () => {},
  detach: () => {},
  abort: () => {},
}

export const NO_UPSTREAMS: UpstreamPool = {
  connections: { active: 0, idle: 0, pending: 0 },
  send(target: UpstreamTarget, _request: UpstreamRequest, handler: UpstreamHandler): UpstreamLeg {
    const detail = 'nothing is asked here'
    queueMicrotask(() => {
      handler.onUpstreamFailure({ target, reason: 'connect_failed', detail, notProcessed: true, bodyConsumed: false })
    })
    return LEG
  },
  retain: () => {},
  close: () => Promise.resolve(),
}
