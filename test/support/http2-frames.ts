/** A client of HTTP/2 that writes frames and reads frames: nothing between the test and the wire. Source: RFC 9113, RFC 7541. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export const KIND = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const
export const FLAG = { end: 1, ack: 1, endHeaders: 4, padded: 8, priority: 32 } as const
export const CODE = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refused: 7,
  cancel: 8,
  compression: 9,
  calm: 11,
} as const

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

export type Fields = readonly (readonly [string, string])[]

export const GET: Fields = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'gw.test'],
]
export const POST: Fields = [[':method', 'POST'], ...GET.slice(1)]

export function frame(kind: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = kind
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

export function u32(...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * numbers.length)
  numbers.forEach((number, at) => bytes.writeUInt32BE(number, 4 * at))
  return bytes
}

/** A header block of literals that no table keeps. */
export function block(fields: Fields): Buffer {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value, 'latin1')
    if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes])
    const length = [127]
    let rest = bytes.length - 127
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128)
    return Buffer.concat([Buffer.from([...length, rest]), bytes])
  }
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]))
}

/** A setting: its number and value. */
export function setting(id: number, value: number): Buffer {
  const bytes = Buffer.alloc(6)
  bytes.writeUInt16BE(id, 0)
  bytes.writeUInt32BE(value, 2)
  return bytes
}

export interface ReadFrame {
  readonly kind: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** Statuses that the static table has. */
const STATUSES = new Map([
  [8, '200'],
  [9, '204'],
  [10, '206'],
  [11, '304'],
  [12, '400'],
  [13, '404'],
  [14, '500'],
])
/** Huffman's code of digits (RFC 7541, appendix B). */
const DIGITS = ['00000', '00001', '00010', '011001', '011010', '011011', '011100', '011101', '011110', '011111']

/** The status at the beginning of a block, in one of the two ways in which our side writes it. */
export function statusOf(bytes: Buffer): string {
  // the size of the table comes first on a connection
  const at = bytes[0]! >> 5 === 1 ? 1 : 0
  if (bytes[at]! >= 128) return STATUSES.get(bytes[at]! & 127) ?? ''
  const length = bytes[at + 1]! & 127
  const text = bytes.subarray(at + 2, at + 2 + length)
  if (bytes[at + 1]! < 128) return text.toString()
  const bits = [...text].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  let status = ''
  for (let from = 0; status.length < 3;) {
    const digit = DIGITS.findIndex((code) => bits.startsWith(code, from))
    if (digit === -1) return ''
    from += DIGITS[digit]!.length
    status += digit
  }
  return status
}

export class FrameClient {
  readonly socket: Socket
  readonly frames: ReadFrame[] = []
  isClosed = false
  #rest = Buffer.alloc(0)
  readonly #wakers = new Set<() => void>()

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.isClosed = true
      this.#wake()
    })
  }

  /** `greets`: with the preface and SETTINGS. */
  static async open(port: number, greets = true): Promise<FrameClient> {
    const socket = connect(port, '127.0.0.1')
    const client = new FrameClient(socket)
    await once(socket, 'connect')
    socket.setNoDelay(true)
    if (greets) client.send(PREFACE, frame(KIND.settings, 0, 0))
    return client
  }

  #read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk])
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3)
      if (this.#rest.length < 9 + length) break
      const head = this.#rest
      this.frames.push({
        kind: head[3]!,
        flags: head[4]!,
        stream: head.readUInt32BE(5) & 0x7fff_ffff,
        payload: Buffer.from(head.subarray(9, 9 + length)),
      })
      this.#rest = head.subarray(9 + length)
    }
    this.#wake()
  }

  #wake(): void {
    for (const waker of this.#wakers) waker()
  }

  send(...bytes: readonly Uint8Array[]): void {
    if (!this.isClosed) this.socket.write(Buffer.concat(bytes))
  }

  request(stream: number, fields: Fields = GET, flags: number = FLAG.end | FLAG.endHeaders): void {
    this.send(frame(KIND.headers, flags, stream, block(fields)))
  }

  /** The first frame that fits; undefined when the connection closes, or three seconds pass, before there is one. */
  async next(fits: (frame: ReadFrame) => boolean): Promise<ReadFrame | undefined> {
    return await new Promise((resolve) => {
      const timer = setTimeout(() => check(true), 3_000)
      const check = (isLate = false): void => {
        const found = this.frames.find(fits)
        if (found === undefined && !isLate && !this.isClosed) return
        clearTimeout(timer)
        this.#wakers.delete(waker)
        resolve(found)
      }
      const waker = (): void => check()
      this.#wakers.add(waker)
      check()
    })
  }

  /** What a stream came to: `reset CODE`, or `STATUS`; `closed CODE` when the connection ended instead. */
  async outcome(stream: number): Promise<string> {
    const found = await this.next(
      (one) =>
        one.kind === KIND.goaway || (one.stream === stream && [KIND.reset, KIND.headers].includes(one.kind as never)),
    )
    if (found === undefined) return this.isClosed ? 'closed' : 'nothing'
    if (found.kind === KIND.goaway) return `closed ${found.payload.readUInt32BE(4)}`
    if (found.kind === KIND.reset) return `reset ${found.payload.readUInt32BE(0)}`
    return statusOf(found.payload)
  }

  /** The code with which the connection ends; -1: without GOAWAY, -2: not within three seconds. */
  async end(): Promise<number> {
    if (!this.isClosed) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 3_000)
        const waker = (): void => {
          if (!this.isClosed) return
          clearTimeout(timer)
          resolve()
        }
        this.#wakers.add(waker)
      })
    }
    if (!this.isClosed) return -2
    return this.frames.findLast(({ kind }) => kind === KIND.goaway)?.payload.readUInt32BE(4) ?? -1
  }

  destroy(): void {
    this.socket.destroy()
  }
}
