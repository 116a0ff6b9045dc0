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
