/**
 * Preloaded into a gateway (`node --import`): every connection to the socket that LOOP_DELAY_SOCKET names is told, as JSON,
 * how late the event loop of the worker was since the last one asked. Milliseconds beyond the millisecond that the timer
 * of the measurement takes itself.
 */
import cluster from 'node:cluster'
import { createServer } from 'node:net'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const path = process.env.LOOP_DELAY_SOCKET
if (cluster.isWorker && isMainThread && path !== undefined) {
  const resolution = 1
  const delays = monitorEventLoopDelay({ resolution })
  delays.enable()
  const ms = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - resolution)
  const server = createServer((socket) => {
    const told = { p50: ms(delays.percentile(50)), p99: ms(delays.percentile(99)), most: ms(delays.max) }
    socket.on('error', () => undefined)
    socket.end(JSON.stringify(told))
    delays.reset()
  })
  // exclusive: the worker's own, not one that the primary shares out
  server.listen({ path, exclusive: true })
  server.unref()
}
