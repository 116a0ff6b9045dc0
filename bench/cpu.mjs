/** CPU time of processes, from /proc: user and system time of the process and of its children that live. */
import { readdirSync, readFileSync } from 'node:fs'

/** Clock ticks are 10 ms on every Linux we know (getconf CLK_TCK). */
const TICK_US = 10_000

function statOf(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // the name in parentheses may hold blanks; fields count from behind it
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) }
}

/** The process and everything below it. */
export function processTree(root) {
  const parents = new Map()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      parents.set(Number(name), statOf(name).parent)
    } catch {
      // gone meanwhile
    }
  }
  const tree = [root]
  for (const pid of tree) for (const [child, parent] of parents) if (parent === pid) tree.push(child)
  return tree
}

/** Microseconds of CPU that the processes have used so far. */
export function cpuUs(pids) {
  return pids.reduce((sum, pid) => sum + statOf(pid).ticks * TICK_US, 0)
}

/**
 * Microseconds of CPU of all threads of the processes, exact where the kernel tells nanoseconds (schedstat), else in
 * ticks. Without `before` a state to measure from; with it the time since. Threads that end in between do not count.
 */
export function threadsCpuUs(pids, before) {
  const now = new Map()
  for (const pid of pids) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      try {
        now.set(thread, threadUs(`/proc/${pid}/task/${thread}`))
      } catch {
        // ended meanwhile
      }
    }
  }
  if (before === undefined) return now
  let sum = 0
  for (const [thread, us] of now) sum += us - (before.get(thread) ?? 0)
  return sum
}

function threadUs(folder) {
  try {
    const [onCpuNs = ''] = readFileSync(`${folder}/schedstat`, 'utf8').split(' ')
    if (Number(onCpuNs) > 0) return Number(onCpuNs) / 1000
  } catch {
    // a kernel without schedstat
  }
  const text = readFileSync(`${folder}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_US
}
