/**
 * The two logs: what the gateway says about itself (stderr), and one line per request. The sole import of pino.
 *
 * pino writes the operational log. Access lines have the same frame but are put together by `record.ts`: measured side
 * by side, a record of 24 fields through pino took 3.7 times as long. Both end in a LineWriter, which never blocks.
 *
 * Source: operations.md O-01, O-09, O-56 … O-61.
 */
import { pino } from 'pino'
import { LineWriter } from './line-writer.ts'
import { accessLine, type AccessRecord } from './record.ts'
import { MASK, maskText } from './redact.ts'

export type LogLevel = 'crit' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

/** The operational log. Fields are a flat object; never put a token, cookie or whole header into one. */
export interface Logger {
  crit(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  /**
   * As `info`, for fields that are JSON already: `"a":1,"b":[2]`. Nothing is masked here. For events that come by the
   * thousand.
   */
  infoJson(members: string, message: string): void
  debug(fields: LogFields, message: string): void
  trace(fields: LogFields, message: string): void
  /** Whether lines of the level `info` are written: what they would say need not be made otherwise. */
  readonly writesInfo: boolean
  /** How much of the room for waiting lines is taken: 0 to 1. When it is full the oldest lines go. */
  readonly fill: number
  /** Takes effect at once; for reloads. */
  setLevel(level: LogLevel): void
  /** A logger that adds fields to every line. */
  with(fields: LogFields): Logger
  flush(): Promise<void>
  /** For the moments before the process ends. */
  flushSync(): void
}

export interface LogFields {
  readonly [name: string]: unknown
  /** An Error is written with type, message and stack. */
  readonly err?: unknown
}

export interface LoggerOptions {
  readonly level: LogLevel
  /** `text` is for people at a terminal. */
  readonly format: 'json' | 'text'
  /** Descriptor; default 2. */
  readonly to?: number
  /** On every line: `worker: 2` and the like. */
  readonly fields?: LogFields
  readonly onDropped?: (lines: number) => void
}

/** Keys that are masked wherever they stand at the first two levels of a line (O-60). */
const REDACTED = ['authorization', 'cookie', 'password', 'token', 'secret', 'key'].flatMap((name) => [
  name,
  `*.${name}`,
])

/** Makes the operational log. */
export function createLogger(options: LoggerOptions): Logger {
  const writer = new LineWriter({
    to: options.to ?? 2,
    maxPendingBytes: 1024 * 1024,
    ...(options.onDropped === undefined ? {} : { onDropped: options.onDropped }),
  })
  const destination = {
    write: (line: string) => writer.write(options.format === 'text' ? textLine(line) : line),
  }
  const root = pino(
    {
      level: options.level === 'crit' ? 'fatal' : options.level,
      base: options.fields ?? {},
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label === 'fatal' ? 'crit' : label }) },
      redact: { paths: REDACTED, censor: MASK },
      serializers: { err: errorFields },
    },
    destination,
  )
  return wrap(root, { writer, write: destination.write })
}

interface Destination {
  readonly writer: LineWriter
  /** Takes a line of JSON. */
  readonly write: (line: string) => void
}

/** What stands before the fields of each line that a logger writes: pino keeps it as text. */
function ownMembers(log: pino.Logger): string {
  const members = (log as unknown as Record<symbol, unknown>)[pino.symbols.chindingsSym]
  return typeof members === 'string' ? members : ''
}

function wrap(log: pino.Logger, destination: Destination): Logger {
  const { writer, write } = destination
  const own = ownMembers(log)
  return {
    infoJson: (members, message) => {
      if (!log.isLevelEnabled('info')) return
      const time = new Date().toISOString()
      write(`{"level":"info","time":"${time}"${own},${members},"msg":${JSON.stringify(message)}}\n`)
    },
    crit: (fields, message) => log.fatal(fields, message),
    error: (fields, message) => log.error(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    info: (fields, message) => log.info(fields, message),
    debug: (fields, message) => log.debug(fields, message),
    trace: (fields, message) => log.trace(fields, message),
    get writesInfo() {
      return log.isLevelEnabled('info')
    },
    get fill() {
      return writer.fill
    },
    setLevel: (level) => {
      log.level = level === 'crit' ? 'fatal' : level
    },
    with: (fields) => wrap(log.child(fields), destination),
    flush: () => writer.flush(),
    flushSync: () => writer.flushSync(),
  }
}

/** An error with its causes, three deep; messages lose tokens. */
function errorFields(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return maskText(String(error))
  const code = (error as NodeJS.ErrnoException).code
  return {
    type: error.name,
    message: maskText(error.message),
    ...(code === undefined ? {} : { code }),
    ...(error.stack === undefined ? {} : { stack: maskText(error.stack) }),
    ...(error.cause === undefined || depth >= 2 ? {} : { cause: errorFields(error.cause, depth + 1) }),
  }
}

/** `2026-01-02T03:04:05.678Z WARN worker died worker=2 signal=SIGKILL` */
function textLine(json: string): string {
  // pino wrote it
  const { time, level, msg, err, ...rest } = JSON.parse(json) as Record<string, unknown>
  const fields = Object.entries(rest).map(([name, value]) => ` ${name}=${fieldText(value)}`)
  let line = `${String(time)} ${String(level).toUpperCase().padEnd(5)} ${escapeControls(String(msg ?? ''))}${fields.join('')}`
  if (err !== undefined) {
    const { stack, message } = err as { stack?: string; message?: string }
    line += `\n${escapeControls(stack ?? message ?? String(err)).replaceAll('\\n', '\n')}`
  }
  return `${line}\n`
}

function fieldText(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'undefined')
  return /^[\w./:@+-]+$/.test(text) ? text : typeof value === 'string' ? JSON.stringify(text) : escapeControls(text)
}

/** O-61: a value cannot begin a line of its own or steer the terminal. */
function escapeControls(text: string): string {
  // eslint-disable-next-line no-control-regex -- finding control characters is the purpose
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) =>
    character === '\n' ? '\\n' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** One line per request. */
export interface AccessLog {
  /** False when the log is off: the record need not be filled. */
  readonly enabled: boolean
  /** Writes the record now; the object may be used again afterwards. */
  write(record: AccessRecord): void
  /** Lines lost because the reader was too slow. */
  readonly dropped: number
  /** Opens the file anew (SIGUSR1, O-20). */
  reopen(): void
  flush(): Promise<void>
  flushSync(): void
  close(): Promise<void>
}

export interface AccessLogOptions {
  /** `stdout`, `stderr`, `off`, or the path of a file. */
  readonly output: string
  /** Descriptor behind `stdout`; default 1. */
  readonly standardOutput?: number
  readonly onDropped?: (lines: number) => void
  readonly maxPendingBytes?: number
}

/** Opens the access log. Throws when its file cannot be opened for appending. */
export function openAccessLog(options: AccessLogOptions): AccessLog {
  const { output, standardOutput = 1, onDropped, maxPendingBytes } = options
  if (output === 'off') return NO_ACCESS_LOG
  const writer = new LineWriter({
    to: output === 'stdout' ? standardOutput : output === 'stderr' ? 2 : output,
    ...(onDropped === undefined ? {} : { onDropped }),
    ...(maxPendingBytes === undefined ? {} : { maxPendingBytes }),
  })
  return {
    enabled: true,
    // accessLine escapes everything outside ASCII
    write: (record) => writer.write(accessLine(record), true),
    get dropped() {
      return writer.dropped
    },
    reopen: () => writer.reopen(),
    flush: () => writer.flush(),
    flushSync: () => writer.flushSync(),
    close: () => writer.close(),
  }
}

const NO_ACCESS_LOG: AccessLog = {
  enabled: false,
  write: () => undefined,
  dropped: 0,
  reopen: () => undefined,
  flush: () => Promise.resolve(),
  flushSync: () => undefined,
  close: () => Promise.resolve(),
}
