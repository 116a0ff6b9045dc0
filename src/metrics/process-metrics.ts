/** What a process says about itself: CPU, memory, descriptors, and how late its timers run. Source: operations.md O-47. */
import { readdirSync } from 'node:fs'
import { resourceUsage } from 'node:process'
import { getHeapStatistics } from 'node:v8'
import type { Metrics } from './metrics.ts'

/** Registers the `process_*` and `nodejs_*` series of this process under the label `process`. */
export function registerProcessMetrics(metrics: Metrics, processName: string): void {
  const startSeconds = Date.now() / 1000 - process.uptime()
  metrics.gauge('processCpu', [processName], () => {
    const { userCPUTime, systemCPUTime } = resourceUsage()
    return (userCPUTime + systemCPUTime) / 1e6
  })
  metrics.gauge(
    'processResidentMemory',
    [processName],
    remembered(() => process.memoryUsage.rss()),
  )
  metrics.gauge('processStartTime', [processName], () => startSeconds)
  metrics.gauge('processOpenFds', [processName], remembered(openDescriptors))
  metrics.gauge('nodejsHeapUsed', [processName], () => getHeapStatistics().used_heap_size)
  metrics.gauge('nodejsExternalMemory', [processName], () => getHeapStatistics().external_memory)
}

/** The last value known, where a value cannot be had: the system is asked through a file, and descriptors may be at their limit (F-21). */
function remembered(measure: () => number): () => number {
  let last = 0
  const read = (): number => {
    try {
      last = measure()
    } catch {
      // no /proc on this system, or no descriptor is left
    }
    return last
  }
  read()
  return read
}

function openDescriptors(): number {
  // one of them is the folder itself
  return readdirSync('/proc/self/fd').length - 1
}

const PROBE_MS = 250
const WINDOW_MS = 10_000

/** Measures how late timers run, and registers it for this worker. Returns what stops it. */
export function watchEventLoop(metrics: Metrics, workerId: number): () => void {
  let expectedAt = performance.now() + PROBE_MS
  let windowEndsAt = performance.now() + WINDOW_MS
  let worstMs = 0
  let worstBeforeMs = 0
  const timer = setInterval(() => {
    const nowMs = performance.now()
    worstMs = Math.max(worstMs, nowMs - expectedAt)
    expectedAt = nowMs + PROBE_MS
    if (nowMs < windowEndsAt) return
    worstBeforeMs = worstMs
    worstMs = 0
    windowEndsAt = nowMs + WINDOW_MS
  }, PROBE_MS)
  timer.unref()
  metrics.gauge('workerEventLoopLag', [String(workerId)], () => Math.max(worstMs, worstBeforeMs, 0) / 1000)
  return () => clearInterval(timer)
}
