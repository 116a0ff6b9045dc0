/** A name server on a loopback port that answers A and AAAA from a table, and can fall silent (RFC 1035 §4). */
import { createSocket } from 'node:dgram'

export interface NameServer {
  /** `127.0.0.1:port` */
  readonly address: string
  /** IPv4 addresses of a name; a name that is not there does not exist. */
  readonly names: Map<string, { readonly addresses: readonly string[]; readonly ttlSeconds: number }>
  /** Questions of type A that came, answered or not. */
  asked: number
  /** No answers from now on. */
  isSilent: boolean
  close(): Promise<void>
}

const TYPE_A = 1
const NOT_FOUND = 3

export async function startNameServer(): Promise<NameServer> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => {
    socket.bind(0, '127.0.0.1', resolve)
  })
  const server: NameServer = {
    address: `127.0.0.1:${socket.address().port}`,
    names: new Map(),
    asked: 0,
    isSilent: false,
    close: () =>
      new Promise((resolve) => {
        socket.close(() => resolve())
      }),
  }
  socket.on('message', (question, from) => {
    const { name, type, end } = readQuestion(question)
    if (type === TYPE_A) server.asked += 1
    if (server.isSilent) return
    const known = server.names.get(name)
    const records = type === TYPE_A && known !== undefined ? known.addresses : []
    const head = Buffer.alloc(12)
    question.copy(head, 0, 0, 2)
    head.writeUInt16BE(0x8180 | (known === undefined ? NOT_FOUND : 0), 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(records.length, 6)
    const answers = records.map((address) => {
      const record = Buffer.alloc(16)
      // the name is that of the question, at offset 12
      record.writeUInt16BE(0xc00c, 0)
      record.writeUInt16BE(TYPE_A, 2)
      record.writeUInt16BE(1, 4)
      record.writeUInt32BE(known!.ttlSeconds, 6)
      record.writeUInt16BE(4, 10)
      record.set(address.split('.').map(Number), 12)
      return record
    })
    socket.send(Buffer.concat([head, question.subarray(12, end), ...answers]), from.port, from.address)
  })
  return server
}

/** The first question: its name in lower case, its type, and where it ends. */
function readQuestion(message: Buffer): { readonly name: string; readonly type: number; readonly end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = message[at]!; length !== 0; length = message[at]!) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: message.readUInt16BE(at + 1), end: at + 5 }
}
