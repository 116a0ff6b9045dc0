#!/usr/bin/env node
/** Where every process begins: workers serve, everything else is a command. Decides nothing else. */
import cluster from 'node:cluster'

if (cluster.isWorker) {
  const [{ runWorker }, { startGateway }] = await Promise.all([
    import('./process/worker.ts'),
    import('./process/gateway-program.ts'),
  ])
  runWorker((setting) => Promise.resolve(startGateway(setting)))
} else {
  // O-10: a fault of ours; a worker's end is in process/worker.ts
  process.on('uncaughtException', (error: Error) => {
    process.stderr.write(`sallyport: internal error: ${error.stack ?? error.message}\n`)
    process.exit(70)
  })
  // whoever read our output went away: nothing is left to say it to
  process.stdout.on('error', () => undefined)
  process.stderr.on('error', () => undefined)
  const { runCommandLine } = await import('./cli/command-line.ts')
  const code = await runCommandLine(process.argv.slice(2), {
    environment: process.env,
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    isTerminal: process.stderr.isTTY,
  })
  // pipes take what was written before the process ends
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)))
}
