/**
 * Header maps in action configurations: names checked at load, values interpolated at run time and checked again.
 *
 * Source: traffic-policy.md §5.1, §5.6, §5.17; H-123 (no control bytes in what we build).
 */
import type { TextSource } from '../config/node.ts'
import { policyKit, transform, INVALID, type Schema } from '../config/schema-kit.ts'
import { isFieldValue, toFieldText } from '../exchange/message-head.ts'
import type { ForetoldAnswer } from '../phase/foretell.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Template } from '../expression/template.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { CompileContext } from './action.ts'

export interface HeaderPlan {
  readonly name: string
  readonly value: Template
}

const NAME = /^[a-zA-Z0-9_-]+$/
const MAX_HEADERS = 10

/** Fields that frame messages or belong to one connection: a policy that could set them could break framing (H-50). */
const RESERVED = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** Name → template source, 1–10 (or 0–10) entries. */
export function headerMap(options: { min?: number } = {}): Schema<ReadonlyMap<string, TextSource>> {
  const limits = { max: MAX_HEADERS, ...options }
  return transform(
    policyKit.mapOf(policyKit.text(), options),
    (map, { node, diagnostics, label }) => {
      let valid = true
      if (map.size > MAX_HEADERS) {
        const text = `${label} has ${map.size} entries, at most ${MAX_HEADERS} are allowed`
        diagnostics.error('ERR_NGROK_2212', text, node.span)
        valid = false
      }
      // the schema let only mappings through
      for (const { key, keySpan } of node.kind === 'map' ? node.entries : []) {
        if (NAME.test(key)) continue
        const hint = 'letters, digits, hyphens and underscores may stand in it'
        diagnostics.error('ERR_NGROK_2210', `${JSON.stringify(key)} is not a header name`, keySpan, hint)
        valid = false
      }
      return valid ? map : INVALID
    },
    { jsonSchema: () => policyKit.mapOf(policyKit.text(), { keyPattern: NAME, ...limits }).jsonSchema() },
  )
}

/** A list of 1–10 names, in lower case. */
export function headerNames(): Schema<readonly string[]> {
  const name = transform(
    policyKit.string({ pattern: NAME, code: 'ERR_NGROK_2210', must: 'must be a header name' }),
    (text, { diagnostics, node }) => {
      if (!refused(text.toLowerCase())) return text.toLowerCase()
      diagnostics.error('ERR_NGROK_2219', `${text} cannot be configured`, node.span, refusalHint(text))
      return INVALID
    },
  )
  return policyKit.list(name, { min: 1, max: MAX_HEADERS })
}

/** Compiles a header map; undefined after errors. Names come out in lower case. */
export function compileHeaders(
  map: ReadonlyMap<string, TextSource>,
  context: CompileContext,
  options: { allowHost?: boolean } = {},
): readonly HeaderPlan[] | undefined {
  const plans: HeaderPlan[] = []
  let valid = true
  for (const [written, source] of map) {
    const name = written.toLowerCase()
    if (refused(name) || (name === 'host' && options.allowHost !== true)) {
      context.diagnostics.error('ERR_NGROK_2219', `${written} cannot be configured`, source.span, refusalHint(name))
      valid = false
      continue
    }
    const value = context.template(source)
    if (value === undefined) valid = false
    else if (value.constant !== undefined && !isFieldValue(toFieldText(value.constant))) {
      context.diagnostics.error('ERR_NGROK_2211', `the value of ${written} is not a valid header value`, source.span)
      valid = false
    } else plans.push({ name, value })
  }
  return valid ? plans : undefined
}

/** The value to send; a failed interpolation gives an empty one and a trace (§4), a forbidden byte gives undefined. */
export function headerValue(header: HeaderPlan, scope: PolicyScope): string | undefined {
  const { constant } = header.value
  if (constant !== undefined) return toFieldText(constant)
  let text = ''
  try {
    text = header.value.render(scope)
  } catch (error) {
    scope.interpolationFailed(`headers.${header.name}`, error)
  }
  const value = toFieldText(text.trim())
  if (isFieldValue(value)) return value
  scope.interpolationFailed(`headers.${header.name}`, 'the value has control characters')
  return undefined
}

/** Lines that will be added to an answer: the same for all, or one that is made for each. */
export type ForetoldLines = { readonly text: string; readonly clocks: readonly number[] } | HeaderPlan

/** The lines of these headers as they will be, with everything put together that is the same each time; undefined: not known. */
export function foretoldLines(headers: readonly HeaderPlan[]): readonly ForetoldLines[] | undefined {
  const all: ForetoldLines[] = []
  let text = ''
  let clocks: number[] = []
  for (const header of headers) {
    const { name, value } = header
    if (!value.canBeForetold) return undefined
    const fixed = value.constant === undefined ? value.fixed : { text: toFieldText(value.constant), clocks: [] }
    if (fixed !== undefined && isPlainValue(fixed.text)) {
      const start = text.length + name.length + 2
      clocks.push(...fixed.clocks.map((place) => start + place))
      text += `${name}: ${fixed.text}\r\n`
      continue
    }
    if (text !== '') all.push({ text, clocks })
    all.push(header)
    text = ''
    clocks = []
  }
  if (text !== '') all.push({ text, clocks })
  return all
}

/** A line that `headerValue` will make when the answer is there; false where that cannot be told. */
export function foretellHeader({ name, value }: HeaderPlan, exchange: Exchange, answer: ForetoldAnswer): boolean {
  const clocks: number[] = []
  let text: string
  try {
    text = value.foretold(exchange, clocks)
  } catch {
    return false
  }
  return isPlainAgain(text) && answer.add(name, text, clocks)
}

let lastPlain = ''

/** The same, for values that are often those of the request before. */
function isPlainAgain(text: string): boolean {
  if (text === lastPlain) return true
  const isPlain = isPlainValue(text)
  if (isPlain) lastPlain = text
  return isPlain
}

/** The text goes into a line as it is: what trimming or another encoding would change is left to the usual way. */
function isPlainValue(text: string): boolean {
  return /^(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?$/.test(text) && text === text.trim()
}

/** Lines for a response we make: `name: value\r\n` each, with `server` (O-72) unless the policy names its own. */
export function headerLines(headers: readonly HeaderPlan[], scope: PolicyScope): string {
  let lines = headers.some((header) => header.name === 'server') ? '' : 'server: sallyport\r\n'
  for (const header of headers) {
    const value = headerValue(header, scope)
    if (value !== undefined) lines += `${header.name}: ${value}\r\n`
  }
  return lines
}

function refusalHint(name: string): string {
  if (name === 'host') return 'only requests have a Host'
  return RESERVED.has(name.toLowerCase())
    ? 'the gateway writes it itself, for each connection'
    : 'it is the client’s own'
}

function refused(name: string): boolean {
  return RESERVED.has(name) || name === 'user-agent'
}
