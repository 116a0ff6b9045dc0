/** Child processes of the demo: started with a name, waited for, and all ended with the demo. */
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'

const children = new Set()

/** A free loopback port. */
export async function freePort() {
  const server = createServer()
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Starts `node FILE …` and resolves when it prints `ready`. */
export function startNode(file, args, options = {}) {
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'inherit'], ...options })
  children.add(child)
  child.once('exit', () => children.delete(child))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`${file} ended with ${code} before it was ready`)))
    child.stdout.on('data', (data) => {
      if (data.toString().includes('ready')) resolve(child)
    })
  })
}

/** A child that is ended with the demo, with nothing to wait for. */
export function track(child) {
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

/** SIGTERM, then SIGKILL after `graceMs`. */
export async function stop(child, graceMs = 3000) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
  await gone
  clearTimeout(timer)
}

export async function stopAll() {
  await Promise.all([...children].map((child) => stop(child)))
}
