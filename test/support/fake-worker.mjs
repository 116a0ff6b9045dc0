/**
 * A worker whose configuration is a list of instructions, to try the primary with workers that misbehave.
 * Runs on the built worker shell. The bundle: { refuse?, dieIn?, hangIn?, inFlight? }, each for one worker id or `all`.
 */
import { Metrics } from '../../dist/metrics/metrics.js'
import { runWorker } from '../../dist/process/worker.js'

runWorker((setting) => {
  const metrics = new Metrics()
  let serving
  const isMe = (who) => who === 'all' || who === setting.workerId
  return Promise.resolve({
    prepare: async (bundle) => {
      if (isMe(bundle.dieInPrepare)) process.kill(process.pid, 'SIGKILL')
      if (isMe(bundle.hangInPrepare)) await new Promise(() => undefined)
      if (isMe(bundle.refuse)) throw new Error(`worker ${setting.workerId} refuses ${bundle.name}`)
      return {
        diagnostics: [],
        commit: () => {
          if (isMe(bundle.dieInCommit)) process.kill(process.pid, 'SIGKILL')
          if (isMe(bundle.throwInCommit)) throw new Error('commit fails')
          serving = bundle
          metrics.count('upstreamRetries', [`committed ${bundle.name}`])
        },
        abort: () => metrics.count('upstreamRetries', [`aborted ${bundle.name}`]),
      }
    },
    drain: () => Promise.resolve(),
    get inFlight() {
      return isMe(serving?.busy) ? 1 : 0
    },
    report: (known) => metrics.report(known),
    reopenLogs: () => metrics.count('upstreamRetries', ['reopened']),
    close: () => Promise.resolve(),
    fatal: (error) => process.stderr.write(`fatal: ${error.message}\n`),
  })
})
