/** Verbs that ask the running instance: reload, stop, status, health, drain, undrain. Source: operations.md O-05, O-06, O-10. */
import { askInstance, UnreachableError, type ControlAnswer, type ControlRequest } from '../process/control.ts'
import type { DiagnosticReport } from '../process/diagnostic-report.ts'
import type { InstanceStatus } from '../process/run.ts'
import { UsageError, type Arguments } from './arguments.ts'
import { stateDirOf } from './configuration.ts'
import { CONFIG_FLAG, EXIT, STATE_DIR_FLAG, type Surroundings, type Verb } from './verb.ts'

const NO_OPERANDS = { usage: '', min: 0, max: 0 } as const

const INSTANCE_FLAGS = {
  ...CONFIG_FLAG,
  ...STATE_DIR_FLAG,
  timeout: { type: 'text', value: 'SECONDS', meaning: 'How long to wait for the answer.' },
} as const

async function ask(
  given: Arguments,
  surroundings: Surroundings,
  request: ControlRequest,
  defaultSeconds: number,
  show: (answer: ControlAnswer) => number | Promise<number>,
): Promise<number> {
  const seconds = Number(given.text('timeout') ?? defaultSeconds)
  if (!(seconds > 0 && seconds <= 86_400)) throw new UsageError('--timeout is a number of seconds above 0')
  try {
    return await show(await askInstance(stateDirOf(given), request, seconds * 1000))
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error
    surroundings.err(`sallyport: ${error.message}\n`)
    return EXIT.unreachable
  }
}

function showReports(answer: ControlAnswer, surroundings: Surroundings): void {
  // the instance is of this program
  const reports = (answer['reports'] ?? []) as readonly DiagnosticReport[]
  for (const { rendered } of reports) surroundings.err(`${rendered}\n`)
}

export const reloadVerb: Verb = {
  name: 'reload',
  aliases: [],
  summary: 'Let the running gateway read its configuration again, and wait until it serves in every worker.',
  operands: NO_OPERANDS,
  flags: INSTANCE_FLAGS,
  notes: ['Exits 0 when it serves, 1 when it was refused (the old one keeps serving), 3 when no instance answers.'],
  run: (given, surroundings) =>
    ask(given, surroundings, { verb: 'reload' }, 300, (answer) => {
      showReports(answer, surroundings)
      const text = `${answer.message ?? (answer.ok ? 'reloaded' : 'refused')}\n`
      if (answer.ok) surroundings.out(text)
      else surroundings.err(`sallyport: ${text}`)
      return answer.ok ? EXIT.ok : EXIT.failure
    }),
}

export const stopVerb: Verb = {
  name: 'stop',
  aliases: [],
  summary: 'Stop the running gateway: finish what is in flight, then end.',
  operands: NO_OPERANDS,
  flags: {
    ...INSTANCE_FLAGS,
    now: { type: 'switch', meaning: 'At once, whatever is in flight.', only: 'command-line' },
  },
  notes: ['Waits until it has ended. Exits 0 when nothing was cut, 4 when something was, 3 when no instance answers.'],
  run: (given, surroundings) =>
    ask(given, surroundings, { verb: 'stop', now: given.switch('now') === true }, 300, async (answer) => {
      if (!answer.ok) {
        surroundings.err(`sallyport: ${answer.message ?? 'it does not stop'}\n`)
        return EXIT.failure
      }
      await gone(Number(answer['pid']))
      const wasCut = answer['cut'] === true
      surroundings.out(wasCut ? 'stopped; some requests were cut\n' : 'stopped\n')
      return wasCut ? EXIT.cut : EXIT.ok
    }),
}

/** Waits until the process is no more, so that what comes next finds port and state folder free. */
async function gone(pid: number): Promise<void> {
  for (let waitedMs = 0; waitedMs < 5000 && isAlive(pid); waitedMs += 20) {
    await new Promise((resolve) => {
      setTimeout(resolve, 20)
    })
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    // no such process
    return false
  }
}

export const statusVerb: Verb = {
  name: 'status',
  aliases: [],
  summary: 'Show what the running gateway does: workers, configuration, last reload.',
  operands: NO_OPERANDS,
  flags: { ...INSTANCE_FLAGS, json: { type: 'switch', meaning: 'As JSON.', only: 'command-line' } },
  run: (given, surroundings) =>
    ask(given, surroundings, { verb: 'status' }, 10, (answer) => {
      // the instance is of this program
      const status = answer['status'] as InstanceStatus
      surroundings.out(given.switch('json') === true ? `${JSON.stringify(status, undefined, 2)}\n` : statusText(status))
      return EXIT.ok
    }),
}

function statusText(status: InstanceStatus): string {
  const lines = [
    `${status.state}, ${status.ready ? 'ready' : `not ready: ${status.reasons.join('; ')}`}`,
    `version        ${status.version}, pid ${status.pid}, up ${status.uptimeSeconds} s`,
    `state folder   ${status.stateDir}`,
    `listeners      ${status.listeners.join(', ') || 'none'}`,
    `configuration  generation ${status.generation}, serving since ${status.configurationSince ?? 'not yet'}`,
  ]
  if (status.lastReload !== undefined) {
    const { at, ok, message, reports } = status.lastReload
    lines.push(`last reload    ${at}: ${ok ? '' : 'FAILED: '}${message}`, ...reports.map(({ rendered }) => rendered))
  }
  for (const worker of status.workers) {
    lines.push(
      `worker ${worker.id}       ${worker.state}, pid ${worker.pid ?? '-'}, generation ${worker.generation}, in flight ${worker.inFlight}, restarts ${worker.restarts}, up ${worker.uptimeSeconds} s`,
    )
  }
  for (const { name, inFlight } of status.drained) lines.push(`drained        ${name}, in flight ${inFlight}`)
  return `${lines.join('\n')}\n`
}

const TARGET_OPERAND = { usage: 'ENDPOINT[/TARGET]', min: 1, max: 1 } as const

function drainVerbOf(verb: 'drain' | 'undrain', summary: string, notes: readonly string[]): Verb {
  return {
    name: verb,
    aliases: [],
    summary,
    operands: TARGET_OPERAND,
    flags: INSTANCE_FLAGS,
    notes,
    run: (given, surroundings) =>
      // the operands' table asks for one
      ask(given, surroundings, { verb, name: given.operands[0]! }, 10, (answer) => {
        if (answer.ok) surroundings.out(`${answer.message ?? verb}\n`)
        else surroundings.err(`sallyport: ${answer.message ?? 'refused'}\n`)
        return answer.ok ? EXIT.ok : EXIT.failure
      }),
  }
}

export const drainVerb: Verb = drainVerbOf('drain', 'Send nothing new to a target, or to any target of an endpoint.', [
  'TARGET is host:port as configured, or one address of it. Requests under way finish; `status` shows how many.',
  'It holds in all workers and across reloads, until undrain or the end of the gateway.',
])

export const undrainVerb: Verb = drainVerbOf('undrain', 'Use a drained target, or a drained endpoint, again.', [
  'Without TARGET everything of the endpoint that was drained is used again.',
])

export const healthVerb: Verb = {
  name: 'health',
  aliases: [],
  summary: 'Exit 0 when the running gateway is ready for traffic; for HEALTHCHECK.',
  operands: NO_OPERANDS,
  flags: INSTANCE_FLAGS,
  run: (given, surroundings) =>
    ask(given, surroundings, { verb: 'health' }, 5, (answer) => {
      if (answer.ok) surroundings.out('ready\n')
      else surroundings.err(`not ready: ${answer.message ?? 'no reason given'}\n`)
      return answer.ok ? EXIT.ok : EXIT.failure
    }),
}
