/**
 * Behaviour of policies over real HTTP: many small policies behind one gateway, each an endpoint with a host of its own.
 * A case is data: policy text, requests, what must come of them.
 */
import { request } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EchoUpstream, type RecordedRequest, startEchoUpstream } from './echo-upstream.ts'
import { installedRules } from './rule-set.ts'
import { type AccessLine, pause, type RunningGateway, startGateway } from './start-gateway.ts'

export interface PolicyCase {
  /** Also the host name: letters, digits, hyphens. */
  readonly name: string
  /** YAML of the policy. */
  readonly policy: string
  /** More endpoints, as YAML list items of gateway.yaml. `UPSTREAM` stands for the echo upstream's address. */
  readonly endpoints?: string
  /** The endpoint has no upstream (a cloud endpoint cannot be written in gateway.yaml, but this falls through to 404). */
  readonly withoutUpstream?: boolean
  readonly needsRules?: boolean
  readonly steps: readonly Step[]
}

export interface Step {
  readonly title: string
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
  /** Waits before it asks. */
  readonly delayMs?: number
  /** What the upstream answers, instead of its echo: raw HTTP without framing. */
  readonly answer?: { readonly status: number; readonly fields?: string; readonly body: string | Uint8Array }
  readonly expect: Expectation
}

export interface Expectation {
  /** 0: the connection is closed without an answer. */
  readonly status: number
  /** undefined as a value: the field must not be there. */
  readonly headers?: Readonly<Record<string, string | RegExp | undefined>>
  readonly body?: string | RegExp
  /** The body's bytes, for those who decode them. */
  readonly decoded?: (body: Buffer) => void
  /** What arrived upstream; `false`: nothing may have arrived. */
  readonly upstream?: false | ((received: RecordedRequest) => void)
  readonly reason?: string | RegExp
  readonly log?: (line: AccessLine) => void
}

interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

const DOMAIN = 'case.test'

/** Declares the cases as tests of one gateway. `settings`: more of gateway.yaml. */
export function policyCases(title: string, cases: readonly PolicyCase[], settings = ''): void {
  describe(title, () => {
    let gateway: RunningGateway
    let upstream: EchoUpstream

    beforeAll(async () => {
      upstream = await startEchoUpstream()
      const address = `http://127.0.0.1:${upstream.port}`
      const rules = installedRules()
      gateway = await startGateway({
        config: ({ port }) =>
          [
            `listeners: [{ address: 127.0.0.1:${port} }]`,
            'access_log: { output: stdout }',
            rules === undefined ? '' : `waf: { rules: ${rules} }`,
            settings,
            'endpoints:',
            ...cases
              .filter((it) => it.needsRules !== true || rules !== undefined)
              .map(
                (it) =>
                  `  - name: ${it.name}\n    url: http://${it.name}.${DOMAIN}:${port}\n` +
                  (it.withoutUpstream === true ? '' : `    upstream: { url: "${address}" }\n`) +
                  `    traffic_policy_file: ${it.name}.yaml\n${(it.endpoints ?? '').replaceAll('UPSTREAM', address)}`,
              ),
          ].join('\n'),
        files: Object.fromEntries(cases.map((it) => [`${it.name}.yaml`, it.policy])),
      })
    })

    afterAll(async () => {
      await gateway?.stop()
      await upstream?.close()
    })

    for (const it_ of cases) {
      const skip = it_.needsRules === true && installedRules() === undefined
      if (skip) console.log(`skipped: ${title}: ${it_.name}: no Core Rule Set is installed`)
      describe.skipIf(skip)(it_.name, () => {
        for (const step of it_.steps) {
          it(step.title, async () => {
            if (step.delayMs !== undefined) await pause(step.delayMs)
            upstream.reset()
            const { answer } = step
            if (answer !== undefined) {
              upstream.answer = (_, socket) => {
                const body = Buffer.from(answer.body)
                const fields = answer.fields ?? 'content-type: text/plain\r\n'
                socket.write(`HTTP/1.1 ${answer.status} X\r\n${fields}content-length: ${body.length}\r\n\r\n`)
                socket.write(body)
              }
            }
            await check(await send(gateway, `${it_.name}.${DOMAIN}`, step), step, upstream, gateway)
          })
        }
      })
    }
  })
}

async function check(reply: Reply, step: Step, upstream: EchoUpstream, gateway: RunningGateway): Promise<void> {
  const { status, headers = {}, body, decoded, upstream: arrived, reason, log } = step.expect
  expect(reply.status, reply.body).toBe(status)
  for (const [name, wanted] of Object.entries(headers)) {
    if (wanted === undefined) expect(reply.headers[name], name).toBeUndefined()
    else if (wanted instanceof RegExp) expect(String(reply.headers[name] ?? ''), name).toMatch(wanted)
    else expect(reply.headers[name], name).toBe(wanted)
  }
  if (body instanceof RegExp) expect(reply.body).toMatch(body)
  else if (body !== undefined) expect(reply.body).toBe(body)
  decoded?.(Buffer.from(reply.body, 'latin1'))
  if (arrived === false) expect(upstream.requests).toHaveLength(0)
  else if (arrived !== undefined) {
    const received = upstream.complete.at(-1)
    expect(received, 'nothing arrived upstream').toBeDefined()
    arrived(received!)
  }
  if (reason !== undefined || log !== undefined) {
    const id = reply.headers['x-request-id']
    const line = await gateway.waitForAccess((candidate) => candidate.request_id === id)
    if (reason instanceof RegExp) expect(line.reason).toMatch(reason)
    else if (reason !== undefined) expect(line.reason).toBe(reason)
    log?.(line)
  }
}

function send(gateway: RunningGateway, host: string, step: Step): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        host: '127.0.0.1',
        port: gateway.port,
        path: step.path ?? '/',
        method: step.method ?? 'GET',
        headers: { host: `${host}:${gateway.port}`, connection: 'close', ...step.headers },
        agent: false,
        timeout: 15_000,
      },
      (incoming) => {
        let body = ''
        incoming.setEncoding('latin1').on('data', (text: string) => (body += text))
        incoming.once('error', reject)
        incoming.once('end', () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body }))
      },
    )
    outgoing.once('timeout', () => outgoing.destroy(new Error('no answer within 15 s')))
    outgoing.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') resolve({ status: 0, headers: {}, body: '' })
      else reject(error)
    })
    outgoing.end(step.body)
  })
}
