/** What a process says about itself: CPU, memory, descriptors, and how late its timers run. Source: operations.md O-47. */
import { readdirSync } from 'node:fs'
import { resourceUsage } from 'node:process'
import type { Metrics } from './metrics.ts'

/** Registers the `process_*` and `nodejs_*` series of this process under the label `process`. */
export function registerProcessMetrics(metrics: Metrics, processName: string): void {
  const startSeconds = Date.now() / 1000 - process.uptime()
  metrics.gauge('processCpu', [processName], () => {
    const { userCPUTime, systemCPUTime } = resourceUsage()
    return (userCPUTime + systemCPUTime) / 1e6
  })
  metrics.gauge('processResidentMemory', [processName], () => process.memoryUsage.rss())
  metrics.gauge('processStartTime', [processName], () => startSeconds)
  metrics.gauge('processOpenFds', [processName], openDescriptors)
  metrics.gauge('nodejsHeapUsed', [processName], () => process.memoryUsage().heapUsed)
  metrics.gauge('nodejsExternalMemory', [processName], () => process.memoryUsage().external)
}

function openDescriptors(): number {
  try {
    // one of them is the folder itself
    return readdirSync('/proc/self/fd').length - 1
  } catch {
    // no /proc on this system
    return 0
  }
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
