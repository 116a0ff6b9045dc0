/**
 * Sends an input of `input-cost.test.ts` again and again, and says what that has cost this process: `costly-input.mjs PORT COUNT
 * NAME`. One connection at a time, a new one for each input; what is answered is read and not looked at. A line of
 * JSON for the warm-up and one for the run: CPU time in microseconds, bytes sent.
 */
import { connect } from 'node:net'

const HOST = 'Host: localhost\r\n'
const many = (count, make) => Array.from({ length: count }, (_, at) => make(at)).join('')
const post = (lines, body) => `POST /a HTTP/1.1\r\n${HOST}${lines}\r\n${body}`

/** Name → what is written, piece by piece. A request ends each, so that the answer says when it is over. */
export const INPUTS = {
  'an ordinary request': () => [`GET /a?b=c HTTP/1.1\r\n${HOST}Accept: */*\r\n\r\n`],
  'as many fields as there may be': () => [
    `GET / HTTP/1.1\r\n${HOST}${many(96, (at) => `X-${at}: ${'v'.repeat(500)}\r\n`)}\r\n`,
  ],
  'a query of 3,500 arguments': () => [`GET /?${many(3500, (at) => `a${at % 10}=&`)} HTTP/1.1\r\n${HOST}\r\n`],
  'a query of escapes': () => [`GET /?a=${'%41'.repeat(5000)} HTTP/1.1\r\n${HOST}\r\n`],
  'a path of escapes and dots': () => [`GET /${'%41/../'.repeat(2000)} HTTP/1.1\r\n${HOST}\r\n`],
  'cookies of 10,000 pairs': () => [
    `GET / HTTP/1.1\r\n${HOST}Cookie: ${many(10_000, (at) => `c${at % 10}=;`)}\r\n\r\n`,
  ],
  'another Host each time': (run) => [`GET / HTTP/1.1\r\nHost: h${run}.localhost\r\n\r\n`],
  'a list of addresses in X-Forwarded-For': () => [
    `GET / HTTP/1.1\r\n${HOST}X-Forwarded-For: ${many(4000, () => '192.0.2.1,')}::1\r\n\r\n`,
  ],
  'a malformed request': () => [`GET /a#b HTTP/1.1\r\n${HOST}\r\n`],
  'a head that comes byte by byte': () => [...`GET /a HTTP/1.1\r\n${HOST}X-A: ${'b'.repeat(150)}\r\n\r\n`],
  'a body that comes byte by byte': () => [post('Content-Length: 200\r\n', ''), ...'b'.repeat(200)],
  'a body in chunks of one byte': () => [
    post('Transfer-Encoding: chunked\r\n', `${'1\r\nb\r\n'.repeat(10_000)}0\r\n\r\n`),
  ],
  'a body of 1 MiB': () => [post('Content-Length: 1048576\r\n', 'b'.repeat(1024 * 1024))],
}

/** Writes the pieces one after the other, and resolves when an answer begins or the connection ends. */
function send(port, pieces) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    let at = 0
    const end = () => {
      socket.destroy()
      resolve()
    }
    const next = () => {
      if (at === pieces.length || socket.destroyed) return
      socket.write(pieces[at++], 'latin1', () => setImmediate(next))
    }
    socket.once('connect', next)
    socket.once('data', end)
    socket.once('error', end)
    socket.once('close', end)
  })
}

async function run(port, count, make) {
  const before = process.cpuUsage()
  let bytes = 0
  for (let each = 0; each < count; each += 1) {
    const pieces = make(each)
    for (const piece of pieces) bytes += piece.length
    await send(port, pieces)
  }
  const { user, system } = process.cpuUsage(before)
  process.stdout.write(`${JSON.stringify({ us: user + system, bytes })}\n`)
}

const [port, count, name] = process.argv.slice(2)
if (process.argv[1]?.endsWith('costly-input.mjs')) {
  await run(Number(port), Math.ceil(Number(count) / 4), INPUTS[name])
  await new Promise((resolve) => process.stdin.once('data', resolve))
  await run(Number(port), Number(count), INPUTS[name])
  process.exit(0)
}
