/**
 * Event streams as a body filter: cut into events as the bytes come, each shown to the policy and sent on at once. An
 * event that is not changed passes byte for byte.
 *
 * Source: WHATWG HTML §9.2.5, §9.2.6 (line ends CRLF, LF or CR; BOM; fields; comments); traffic-policy.md §1.1, §5.21.
 */
import type { BodyFilter, FilterSink } from '../listener/front-end.ts'
import { bodyBytes, bodyText, insertable } from './body-text.ts'

const LF = 10
const CR = 13
const BOM = '\ufeff'

/** The fields of an event that may be changed. */
export type EventField = 'data' | 'retry'

export const EVENT_FIELDS: readonly EventField[] = ['data', 'retry']

interface Line {
  readonly text: string
  /** Its line end; empty at the end of the stream. */
  readonly end: string
}

/** One event as it came. */
export class EventMessage {
  readonly isUtf8: boolean
  readonly #prefix: string
  #lines: readonly Line[]
  #isChanged = false

  /** `bytes`: the lines of the event with the empty one behind them. `isFirst`: it begins the stream. */
  constructor(bytes: Uint8Array, isFirst: boolean) {
    const body = bodyText(bytes)
    this.isUtf8 = body.isUtf8
    this.#prefix = isFirst && body.text.startsWith(BOM) ? BOM : ''
    const lines: Line[] = []
    for (const [, text = '', end = ''] of body.text.slice(this.#prefix.length).matchAll(/([^\r\n]*)(\r\n|\r|\n|$)/g)) {
      if (text !== '' || end !== '') lines.push({ text, end })
    }
    this.#lines = lines
  }

  get isChanged(): boolean {
    return this.#isChanged
  }

  /** Value of the field: lines of `data` joined by LF, the last one of `retry`. Undefined: it is not there. */
  get(field: EventField): string | undefined {
    const values = this.#lines.flatMap((line) => valueOf(line.text, field) ?? [])
    return field === 'data' && values.length > 0 ? values.join('\n') : values.at(-1)
  }

  /** Puts a value in the place of the field, which must be there. `retry` is one line: line ends in it are dropped. */
  set(field: EventField, value: string): void {
    const values = field === 'data' ? value.split(/\r\n|\r|\n/) : [value.replace(/[\r\n]/g, '')]
    const first = this.#lines.findIndex((line) => valueOf(line.text, field) !== undefined)
    const { end = '\n' } = this.#lines[first] ?? {}
    const written = values.map((text): Line => ({ text: `${field}: ${text}`, end: end === '' ? '\n' : end }))
    this.#lines = [
      ...this.#lines.slice(0, first),
      ...written,
      ...this.#lines.slice(first + 1).filter((line) => valueOf(line.text, field) === undefined),
    ]
    this.#isChanged = true
  }

  get bytes(): Uint8Array {
    const text = this.#lines.map((line) => line.text + line.end).join('')
    return bodyBytes({ text: this.#prefix + text, isUtf8: this.isUtf8 })
  }

  /** Text in the form of the values of this event. */
  insertable(text: string): string {
    return insertable(text, this.isUtf8)
  }
}

/** The value of a line of that field, one space behind the colon left out. */
function valueOf(line: string, field: EventField): string | undefined {
  if (!line.startsWith(field)) return undefined
  if (line.length === field.length) return ''
  if (line[field.length] !== ':') return undefined
  return line.slice(field.length + (line[field.length + 1] === ' ' ? 2 : 1))
}

export interface EventStreamOptions {
  /** An event beyond it ends the stream. */
  readonly maxEventBytes: number
  /** Looks at an event, and changes it. What it throws ends the stream. */
  readonly onMessage: (message: EventMessage) => void
}

export class EventStreamFilter implements BodyFilter {
  readonly #options: EventStreamOptions
  #sink: FilterSink | undefined
  /** The event that is not complete. */
  #held: Uint8Array[] = []
  #heldBytes = 0
  #isFirst = true
  #lineIsEmpty = true
  /** The last byte was a CR: a LF now belongs to it. */
  #afterCr = false
  #isPaused = false
  #wantsReady = false

  constructor(options: EventStreamOptions) {
    this.#options = options
  }

  attach(sink: FilterSink): void {
    this.#sink = sink
  }

  write(chunk: Uint8Array): boolean {
    let start = 0
    if (this.#afterCr && this.#heldBytes === 0 && chunk[0] === LF) {
      this.#afterCr = false
      start = 1
      this.#sink?.output(chunk.subarray(0, 1))
    }
    for (let at = start; at < chunk.length; at++) {
      const byte = chunk[at]
      if (byte !== CR && byte !== LF) {
        this.#lineIsEmpty = false
        this.#afterCr = false
        continue
      }
      if (byte === LF && this.#afterCr) {
        this.#afterCr = false
        continue
      }
      this.#afterCr = byte === CR
      if (!this.#lineIsEmpty) {
        this.#lineIsEmpty = true
        continue
      }
      // an empty line ends the event
      if (byte === CR && chunk[at + 1] === LF) {
        this.#afterCr = false
        at++
      }
      this.#hold(chunk.subarray(start, at + 1))
      this.#event()
      start = at + 1
    }
    if (start < chunk.length) this.#hold(chunk.subarray(start))
    this.#wantsReady = this.#isPaused && this.#sink !== undefined
    return !this.#wantsReady
  }

  end(): void {
    // clients drop an event without its end, but what it holds is seen by whoever looks at the bytes
    if (this.#heldBytes > 0) this.#event()
    const sink = this.#sink
    this.#sink = undefined
    sink?.finished()
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    if (!this.#wantsReady) return
    this.#wantsReady = false
    this.#sink?.ready()
  }

  close(): void {
    this.#sink = undefined
    this.#held = []
    this.#heldBytes = 0
  }

  #hold(bytes: Uint8Array): void {
    if (this.#sink === undefined) return
    this.#held.push(bytes)
    this.#heldBytes += bytes.length
    if (this.#heldBytes > this.#options.maxEventBytes) {
      this.#break(`an event has more than ${this.#options.maxEventBytes} bytes`)
    }
  }

  #event(): void {
    const sink = this.#sink
    if (sink === undefined) return
    const bytes = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held, this.#heldBytes)
    this.#held = []
    this.#heldBytes = 0
    const message = new EventMessage(bytes, this.#isFirst)
    this.#isFirst = false
    if (EVENT_FIELDS.every((field) => message.get(field) === undefined)) {
      sink.output(bytes)
      return
    }
    try {
      this.#options.onMessage(message)
    } catch (error) {
      this.#break(error instanceof Error ? error.message : String(error))
      return
    }
    sink.output(message.isChanged ? message.bytes : bytes)
  }

  #break(detail: string): void {
    const sink = this.#sink
    this.close()
    sink?.broken(detail)
  }
}
