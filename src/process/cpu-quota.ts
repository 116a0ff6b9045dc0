/**
 * How many workers `auto` means: the CPU quota of the container rounded up, at most what the machine lets us use.
 *
 * Source: operations.md O-78; Linux cgroup v2 `cpu.max` ("$MAX $PERIOD"), v1 `cpu.cfs_quota_us` / `cpu.cfs_period_us`.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

const MAX_WORKERS = 64

/** CPUs that a `cpu.max` line grants; undefined for `max` or anything unreadable. */
export function parseCpuMax(text: string): number | undefined {
  const [quota, period] = text.trim().split(/\s+/)
  const cpus = Number(quota) / Number(period ?? 100_000)
  return Number.isFinite(cpus) && cpus > 0 ? cpus : undefined
}

/** 1 … 64. */
export function automaticWorkers(
  readFile: (path: string) => string = (path) => readFileSync(path, 'utf8'),
  available: number = availableParallelism(),
): number {
  const quota = cgroupQuota(readFile)
  const cpus = quota === undefined ? available : Math.min(available, Math.ceil(quota))
  return Math.min(MAX_WORKERS, Math.max(1, cpus))
}

function cgroupQuota(readFile: (path: string) => string): number | undefined {
  const attempt = (path: string): string | undefined => {
    try {
      return readFile(path)
    } catch {
      // no such controller here
      return undefined
    }
  }
  // Within a container the cgroup's own folder is the root of the mount; on a host the process's path counts.
  const own = attempt('/proc/self/cgroup')
    ?.split('\n')
    .find((line) => line.startsWith('0::'))
    ?.slice(3)
  for (const folder of [own === undefined || own === '/' ? undefined : `/sys/fs/cgroup${own}`, '/sys/fs/cgroup']) {
    const text = folder === undefined ? undefined : attempt(`${folder}/cpu.max`)
    if (text !== undefined) return parseCpuMax(text)
  }
  const quota = attempt('/sys/fs/cgroup/cpu/cpu.cfs_quota_us')
  const period = attempt('/sys/fs/cgroup/cpu/cpu.cfs_period_us')
  return quota === undefined || period === undefined ? undefined : parseCpuMax(`${quota.trim()} ${period.trim()}`)
}
