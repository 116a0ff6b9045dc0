/** Reads base64 lines, gives each to Node's own HTTP parser as all bytes of a connection, and writes what it made of them. */
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { Duplex } from 'node:stream'

/** The outcome of the connection at hand. */
let outcome
const server = createServer({ insecureHTTPParser: false, maxHeaderSize: 2 ** 20, keepAlive: true }, (request, response) => {
  const { method, url, httpVersion, rawHeaders } = request
  const entry = { method, url, version: httpVersion, fields: rawHeaders, body: '', complete: false }
  outcome.requests.push(entry)
  request.setEncoding('latin1')
  request.on('data', (piece) => (entry.body += piece))
  request.on('end', () => (entry.complete = request.complete))
  request.on('error', () => {})
  response.on('error', () => {})
})
server.on('checkContinue', (request, response) => server.emit('request', request, response))
server.on('checkExpectation', (request, response) => server.emit('request', request, response))
server.on('clientError', (error) => (outcome.error ??= error.code ?? 'ERROR'))
const takeUpgrade = ({ method, url, httpVersion, rawHeaders }) =>
  outcome.requests.push({ method, url, version: httpVersion, fields: rawHeaders, body: '', complete: true, upgrade: true })
server.on('upgrade', takeUpgrade)
server.on('connect', takeUpgrade)
server.timeout = 0

const turn = () => new Promise((resolve) => setImmediate(resolve))

for await (const line of createInterface({ input: process.stdin })) {
  outcome = { requests: [], error: null }
  const socket = new Duplex({ read() {}, write: (_bytes, _encoding, done) => done() })
  socket.setTimeout = () => socket
  socket.setKeepAlive = () => socket
  socket.setNoDelay = () => socket
  socket.on('error', () => {})
  server.emit('connection', socket)
  socket.push(Buffer.from(line, 'base64'))
  await turn()
  await turn()
  const told = outcome
  socket.destroy()
  await turn()
  process.stdout.write(`${JSON.stringify(told)}\n`)
}
process.exit(0)
