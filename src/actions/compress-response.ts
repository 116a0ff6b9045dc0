/**
 * `compress-response`: compresses the body on its way to the client with the coding that the client likes best. It
 * streams; of event streams and bodies of unknown length whatever has come goes out at once.
 *
 * Left as they are: bodies that are encoded, parts (206), `no-transform`, and media that are compressed in themselves.
 * `compress` is understood and never chosen. Never ends the phase. Publishes `compress.already_compressed` and
 * `compress.negotiated_algorithm`. Source: traffic-policy.md §5.5; RFC 9110 §8.8.1, §12.5.3, §12.5.5; RFC 9111 §5.2.2.6.
 */
import { CONTENT_CODINGS, type ContentCoding, negotiateCoding } from '../body/content-coding.ts'
import { isPlain } from '../body/decoded-body.ts'
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import type { MessageHead } from '../exchange/message-head.ts'
import { NEXT } from '../phase/outcome.ts'
import type { Action } from './action.ts'

const ALGORITHMS = ['gzip', 'deflate', 'br', 'compress'] as const

interface Config {
  readonly algorithms: readonly (typeof ALGORITHMS)[number][]
}

interface Plan {
  readonly codings: readonly ContentCoding[]
}

export const compressResponse: Action<Config, Plan> = {
  type: 'compress-response',
  phases: ['on_http_response'],
  configRequired: false,
  schema: policyKit.object(
    {
      algorithms: described(
        withDefault(
          policyKit.list(policyKit.enumeration(ALGORITHMS, { code: 'ERR_NGROK_2214' }), { unique: true, min: 1 }),
          ALGORITHMS,
        ),
        "Codings that may be used; the client's `Accept-Encoding` decides among them.",
      ),
    },
    { allowNull: true },
  ),
  compile: (config) => ({ codings: config.algorithms.filter((name): name is ContentCoding => isCoding(name)) }),
  run(plan, exchange) {
    // phases run only with a response
    const state = exchange.responseState!
    const { head, status } = state
    const encoding = head.first('content-encoding')
    const encoded = encoding !== undefined && !isPlain(encoding)
    const publish = (algorithm: string): typeof NEXT => {
      exchange.setResult('compress', { already_compressed: encoded, negotiated_algorithm: algorithm })
      return NEXT
    }
    const hasBody = status >= 200 && status !== 204 && (exchange.method === 'HEAD' || state.bodyLength !== 0)
    if (encoded || status === 206 || (status !== 304 && !hasBody)) return publish('')
    if (isUntouchable(head) || isUntouchable(exchange.head) || isCompressedMedia(head.first('content-type'))) {
      return publish('')
    }
    // also where nothing is compressed: what is sent depends on the field
    addVary(head)
    const coding = negotiateCoding(exchange.head.all('accept-encoding').join(',') || undefined, plan.codings)
    if (coding === undefined) return publish('')
    weakenTag(head)
    // 304 tells the fields of what the client has (RFC 9110 §15.4.5)
    if (status === 304) return publish('')
    head.remove('accept-ranges')
    head.remove('content-length')
    head.set('content-encoding', coding)
    exchange.setResponse({ ...state, compression: coding, bodyChanged: true })
    return publish(coding)
  },
}

function isCoding(name: string): boolean {
  return CONTENT_CODINGS.some((coding) => coding === name)
}

function isUntouchable(head: MessageHead): boolean {
  return head.all('cache-control').some((value) => /(?:^|,)\s*no-transform\s*(?:,|$)/i.test(value))
}

const COMPRESSED_MEDIA =
  /^(?:image\/(?!svg|bmp|x-ms-bmp|vnd\.microsoft\.icon|x-icon|tiff|x-portable)|video\/|audio\/(?!wav|x-wav|midi)|font\/woff|application\/(?:zip|gzip|x-gzip|x-bzip2?|x-xz|zstd|x-7z-compressed|vnd\.rar|x-rar-compressed|font-woff2?)(?:$|[\s;]))/i

/** Types whose own format is a compressed one. */
function isCompressedMedia(contentType: string | undefined): boolean {
  return contentType !== undefined && COMPRESSED_MEDIA.test(contentType.trim())
}

function addVary(head: MessageHead): void {
  const members = head
    .all('vary')
    .join(',')
    .split(',')
    .map((member) => member.trim().toLowerCase())
  if (!members.includes('accept-encoding') && !members.includes('*')) head.add('vary', 'accept-encoding')
}

/** The compressed bytes are others: a strong tag would say that they are the same (RFC 9110 §8.8.1). */
function weakenTag(head: MessageHead): void {
  const tag = head.first('etag')
  if (tag?.startsWith('"') === true) head.set('etag', `W/${tag}`)
}
