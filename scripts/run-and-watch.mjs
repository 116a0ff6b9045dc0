/** Runs a command with its output shown and kept line by line. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { root } from './set-up.mjs'

/** Resolves to the exit status (1 when it could not be started or was killed) and every line of both outputs, without colours. */
export function runAndWatch(command, args, options = {}) {
  return new Promise((resolve) => {
    const lines = []
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], ...options })
    for (const [from, to] of [
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ]) {
      createInterface({ input: from }).on('line', (line) => {
        to.write(`${line}\n`)
        // eslint-disable-next-line no-control-regex -- terminal colours begin with the escape character
        lines.push(line.replace(/\u001b\[[0-9;]*m/g, ''))
      })
    }
    child.once('error', (error) => {
      process.stderr.write(`${error.message}\n`)
      resolve({ status: 1, lines })
    })
    child.once('close', (code) => resolve({ status: code ?? 1, lines }))
  })
}
