/** `sallyport explain`: which rules and actions one request meets, and why. Source: operations.md O-06. */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { ConfigError, Diagnostics } from '../config/diagnostic.ts'
import { explanation, explanationJson } from '../offline/explanation.ts'
import type { UpstreamAnswer } from '../offline/offline-front-end.ts'
import { policyAlone } from '../offline/policy-tests.ts'
import { Replay, type ReplayedRequest } from '../offline/replay.ts'
import { fieldsOfHead, requestFromFile, splitTarget, type WrittenRequest } from '../offline/written-request.ts'
import { readMessage } from '../waf/message-file.ts'
import { UsageError, type Arguments } from './arguments.ts'
import { configurationInput } from './configuration.ts'
import { orReport } from './replay-errors.ts'
import { CONFIG_FLAG, EXIT, STATE_DIR_FLAG, type Verb } from './verb.ts'

export const explainVerb: Verb = {
  name: 'explain',
  aliases: [],
  summary:
    'Send one request through the configuration without serving it, and print which rules and actions fire and why.',
  operands: { usage: '[URL]', min: 0, max: 1 },
  flags: {
    request: {
      type: 'text',
      value: 'FILE',
      meaning: 'The request as HTTP/1.1 writes it; - is standard input. Instead of URL and the flags of curl.',
      only: 'command-line',
    },
    ...CONFIG_FLAG,
    ...STATE_DIR_FLAG,
    'traffic-policy-file': {
      type: 'text',
      value: 'FILE',
      aliases: ['policy-file'],
      meaning: 'A traffic policy alone instead of a configuration: it stands before every host.',
    },
    method: {
      type: 'text',
      value: 'METHOD',
      short: 'X',
      meaning: 'Method; default GET, or POST with --data.',
      only: 'command-line',
    },
    header: {
      type: 'text',
      value: 'NAME: VALUE',
      short: 'H',
      repeats: true,
      meaning: 'A header field; may repeat.',
      only: 'command-line',
    },
    data: {
      type: 'text',
      value: 'TEXT',
      short: 'd',
      meaning: 'The body; @FILE reads it from a file.',
      only: 'command-line',
    },
    'client-ip': {
      type: 'text',
      value: 'ADDRESS',
      meaning: 'Where the request comes from; default 203.0.113.9.',
      only: 'command-line',
    },
    response: {
      type: 'text',
      value: 'FILE',
      meaning: 'What the upstream answers, as HTTP/1.1 writes it; default: 200 without a body.',
      only: 'command-line',
    },
    json: { type: 'switch', meaning: 'Print JSON.', only: 'command-line' },
  },
  notes: [
    'Upstreams are not asked. Key sets of jwt-validation are fetched, as a gateway would.',
    'Exits 0 whatever the policy decides, 1 when the configuration or the request is refused.',
  ],
  run: async (given, { out, err }) => {
    const diagnostics = new Diagnostics()
    const request = requestOf(given, diagnostics)
    const answer = answerOf(given, diagnostics)
    const policy = given.text('traffic-policy-file')
    const input = policy === undefined ? configurationInput(given) : policyAlone(policy)
    return orReport(err, async () => {
      if (request === undefined || answer === undefined) throw new ConfigError(diagnostics.all)
      const replay = await Replay.open(input)
      try {
        const [came] = await replay.run([request], answer)
        // one request, one result
        if (given.switch('json') === true) out(`${JSON.stringify(explanationJson(request, came!), undefined, 2)}\n`)
        else out(explanation(request, came!))
        return EXIT.ok
      } finally {
        await replay.close()
      }
    })
  },
}

function requestOf(given: Arguments, diagnostics: Diagnostics): ReplayedRequest | undefined {
  const file = given.text('request')
  const url = given.operands[0]
  if ((file === undefined) === (url === undefined)) throw new UsageError('give either --request FILE or a URL')
  const clientAddress = given.text('client-ip') ?? '203.0.113.9'
  if (isIP(clientAddress) === 0) throw new UsageError(`--client-ip ${clientAddress} is not an IP address`)
  if (file === undefined) return { ...fromFlags(given, url!), clientAddress }
  const message = readMessage(file, 'request', diagnostics)
  return message && { ...requestFromFile(message), clientAddress }
}

function fromFlags(given: Arguments, url: string): WrittenRequest {
  const { origin, host } = splitTarget(url.includes('://') ? url : `http://${url}`)
  const fields = given.list('header').map((line) => fieldOf(line))
  const body = dataOf(given.text('data'))
  const has = (name: string): boolean => fields.some(([own]) => own.toLowerCase() === name)
  if (!has('host') && host !== undefined) fields.unshift(['host', host])
  if (body.length > 0 && !has('content-length')) fields.push(['content-length', String(body.length)])
  if (body.length > 0 && !has('content-type')) fields.push(['content-type', 'application/x-www-form-urlencoded'])
  const method = given.text('method') ?? (given.text('data') === undefined ? 'GET' : 'POST')
  return { method, target: origin, fields, body }
}

function answerOf(given: Arguments, diagnostics: Diagnostics): UpstreamAnswer | undefined {
  const file = given.text('response')
  if (file === undefined) return { status: 200, fields: [], body: new Uint8Array(0) }
  const message = readMessage(file, 'response', diagnostics)
  return message && { status: message.status, fields: fieldsOfHead(message.head), body: message.body }
}

function fieldOf(line: string): [string, string] {
  const colon = line.indexOf(':')
  if (colon < 1) throw new UsageError(`--header "${line}" is not NAME: VALUE`)
  return [line.slice(0, colon), Buffer.from(line.slice(colon + 1).trim()).toString('latin1')]
}

/** The body that `--data` says. */
function dataOf(text: string | undefined): Uint8Array {
  if (text?.startsWith('@') !== true) return Buffer.from(text ?? '')
  const file = text.slice(1)
  try {
    return readFileSync(file === '-' ? 0 : file)
  } catch (error) {
    throw new UsageError(`--data @${file}: ${(error as Error).message}`)
  }
}
