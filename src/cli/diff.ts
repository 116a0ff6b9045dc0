/** `sallyport diff`: what two configurations do differently with the same requests. Source: operations.md O-06. */
import { ConfigError, Diagnostics } from '../config/diagnostic.ts'
import { DiskReader } from '../config/load.ts'
import { compare } from '../offline/judge.ts'
import { readRequests } from '../offline/policy-tests.ts'
import { Replay } from '../offline/replay.ts'
import { UsageError } from './arguments.ts'
import { orReport } from './replay-errors.ts'
import { EXIT, type Verb } from './verb.ts'

const UPSTREAM_ANSWER = { status: 200, fields: [], body: new Uint8Array(0) }

export const diffVerb: Verb = {
  name: 'diff',
  aliases: [],
  summary: 'Send the same requests through two configurations, and print what they do differently.',
  operands: { usage: 'OLD NEW', min: 2, max: 2 },
  flags: {
    requests: {
      type: 'text',
      value: 'FILE',
      meaning: 'Requests as a YAML list under `requests`, or a file of policy tests, whose requests are taken. Needed.',
      only: 'command-line',
    },
  },
  notes: [
    'Each request meets limits that begin empty. Upstreams are not asked; they answer 200.',
    'Exits 0 when nothing is different, 1 when something is, or when a file is refused.',
  ],
  run: (given, { out, err }) =>
    orReport(err, async () => {
      const [before = '', after = ''] = given.operands
      const path = given.text('requests')
      if (path === undefined) throw new UsageError('--requests is needed: a file of requests to send through both')
      const diagnostics = new Diagnostics()
      const requests = readRequests(path, new DiskReader(), diagnostics)
      if (requests === undefined) throw new ConfigError(diagnostics.all)
      const old = await Replay.open({ files: [before] })
      try {
        const now = await Replay.open({ files: [after] })
        try {
          let changed = 0
          for (const { name, request } of requests) {
            const [was] = await old.run([request], UPSTREAM_ANSWER)
            const [is] = await now.run([request], UPSTREAM_ANSWER)
            // one request, one result
            const differences = compare(was!, is!)
            if (differences.length === 0) continue
            changed += 1
            out(`${name}\n`)
            for (const { what, expected, actual } of differences) out(`  ${what}: ${expected} → ${actual}\n`)
          }
          out(`${changed} of ${requests.length} requests are treated differently\n`)
          return changed === 0 ? EXIT.ok : EXIT.failure
        } finally {
          await now.close()
        }
      } finally {
        await old.close()
      }
    }),
}
