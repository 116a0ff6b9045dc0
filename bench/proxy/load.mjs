/**
 * The load of `npm run bench:proxy`: wrk on one thread, as many connections as the row says, one request again and again; h2load
 * for rows whose clients speak HTTP/2.
 */
import { spawn } from 'node:child_process'
import { Agent, request as httpRequest } from 'node:http'
import { connect } from 'node:http2'
import { Agent as SecureAgent, request as httpsRequest } from 'node:https'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Requests/s, latencies and the number of requests; throws when an answer was not 2xx or a connection failed. */
export async function load(folder, side, row, seconds, extraHeaders) {
  if (row.streams !== undefined) return loadStreams(folder, side, row, seconds, extraHeaders)
  const { request } = row
  const script = join(folder, 'request.lua')
  const headers = { ...request.headers, ...extraHeaders, Host: `localhost:${side.port}` }
  writeFileSync(
    script,
    [
      `wrk.method = ${JSON.stringify(request.method)}`,
      ...Object.entries(headers).map(
        ([name, value]) => `wrk.headers[${JSON.stringify(name)}] = ${JSON.stringify(value)}`,
      ),
      ...(request.body === undefined ? [] : [`wrk.body = ${JSON.stringify(request.body)}`]),
    ].join('\n'),
  )
  const url = `${row.tls ? 'https' : 'http'}://127.0.0.1:${side.port}${request.path}`
  const args = ['-t1', `-c${row.connections}`, `-d${seconds}s`, '--timeout', '10s', '--latency', '-s', script, url]
  const text = await output('wrk', args)
  const count = Number(/(\d+) requests in/.exec(text)?.[1])
  const refused = /Non-2xx or 3xx responses: (\d+)/.exec(text)
  const errors = /Socket errors: .*/.exec(text)
  if (!(count > 0) || refused !== null || errors !== null) {
    throw new Error(`${side.name}: ${count} requests, ${refused?.[0] ?? ''} ${errors?.[0] ?? ''}`)
  }
  return {
    count,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    p50Ms: milliseconds(/^\s+50%\s+(\S+)/m.exec(text)?.[1]),
    p99Ms: milliseconds(/^\s+99%\s+(\S+)/m.exec(text)?.[1]),
  }
}

/** The same with h2load: `row.streams` requests at a time on each connection, in HTTP/2 with prior knowledge. */
async function loadStreams(folder, side, row, seconds, extraHeaders) {
  const { method, path, headers } = row.request
  const log = join(folder, 'h2load.log')
  const lines = Object.entries({ ':method': method, ...headers, ...extraHeaders }).flatMap(([name, value]) => [
    '-H',
    `${name}: ${value}`,
  ])
  const counts = ['-t1', `-c${row.connections}`, `-m${row.streams}`, '-D', String(seconds), `--log-file=${log}`]
  const text = await output('h2load', [...counts, ...lines, `http://localhost:${side.port}${path}`])
  const asked = /requests: .*?(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored/.exec(text)
  const [, , count, failed, errored] = (asked ?? []).map(Number)
  const refused = /status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx/.test(text) ? '' : 'answers other than 2xx'
  if (!(count > 0) || failed > 0 || errored > 0 || refused !== '')
    throw new Error(`${side.name}: ${count} requests, ${failed} failed, ${errored} errored ${refused}`)
  // start, status, microseconds
  const timesUs = readFileSync(log, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => Number(line.slice(line.lastIndexOf('\t') + 1)))
    .toSorted((a, b) => a - b)
  rmSync(log)
  const at = (part) => timesUs[Math.floor((timesUs.length - 1) * part)] / 1000
  return { count, perSecond: count / seconds, p50Ms: at(0.5), p99Ms: at(0.99) }
}

function milliseconds(text = '') {
  const unit = { us: 0.001, ms: 1, s: 1000 }[/[a-z]+$/.exec(text)?.[0]]
  return Number.parseFloat(text) * unit
}

function output(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => (text += chunk))
    child.once('error', reject)
    child.once('exit', (code) => (code === 0 ? resolve(text) : reject(new Error(`${command} ended with ${code}`))))
  })
}

/** One request outside of the timing: status, field names and body bytes of the answer. */
export function ask(side, row, path, extraHeaders) {
  return row.streams === undefined ? askOnce(side, row, path, extraHeaders) : askStream(side, row, path, extraHeaders)
}

function askStream(side, row, path, extraHeaders) {
  const { method, headers } = row.request
  return new Promise((resolve, reject) => {
    const session = connect(`http://localhost:${side.port}`).once('error', reject)
    const stream = session.request({
      ':method': method,
      ':path': path ?? row.request.path,
      ...headers,
      ...extraHeaders,
    })
    let answer = {}
    const chunks = []
    stream.once('response', (fields) => (answer = fields))
    stream.on('data', (chunk) => chunks.push(chunk))
    stream.once('error', reject)
    stream.once('end', () => {
      session.close()
      const body = Buffer.concat(chunks)
      const fields = Object.keys(answer).filter((name) => !name.startsWith(':'))
      resolve({
        status: answer[':status'],
        fields: fields.toSorted(),
        bytes: body.length,
        text: body.toString('latin1'),
      })
    })
    stream.end()
  })
}

function askOnce(side, row, path, extraHeaders) {
  const { method, headers, body } = row.request
  const send = row.tls ? httpsRequest : httpRequest
  const agent = new (row.tls ? SecureAgent : Agent)({ keepAlive: true })
  return new Promise((resolve, reject) => {
    const outgoing = send(
      {
        host: '127.0.0.1',
        port: side.port,
        method,
        path: path ?? row.request.path,
        headers: { ...headers, ...extraHeaders, host: `localhost:${side.port}` },
        rejectUnauthorized: false,
        agent,
      },
      (incoming) => {
        let bytes = 0
        let text = ''
        incoming.on('data', (chunk) => {
          bytes += chunk.length
          if (text.length < 1024) text += chunk.toString('latin1')
        })
        incoming.once('end', () => {
          agent.destroy()
          resolve({ status: incoming.statusCode, fields: Object.keys(incoming.headers).toSorted(), bytes, text })
        })
        incoming.once('error', reject)
      },
    )
    outgoing.once('error', reject)
    outgoing.end(body)
  })
}
