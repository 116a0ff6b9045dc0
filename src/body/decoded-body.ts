/**
 * Bodies as the rules must see them: one layer of gzip, deflate or br taken off, within a limit. What travels on stays
 * as it was sent.
 *
 * Source: T-43 (compressed requests are decoded under a limit or refused), T-47 (response rules see decoded bodies).
 */
import type { Duplex } from 'node:stream'
import { promisify } from 'node:util'
import {
  brotliDecompress,
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  gunzip,
  inflate,
  inflateRaw,
  type ZlibOptions,
} from 'node:zlib'

/** `unsupported`: several layers, or a coding we do not know. `broken`: the bytes are not what the field says. */
export type DecodedBody =
  | { readonly kind: 'decoded'; readonly bytes: Uint8Array; readonly complete: boolean }
  | { readonly kind: 'unsupported' }
  | { readonly kind: 'broken' }

const gunzipAsync = promisify(gunzip)
const inflateAsync = promisify(inflate)
const inflateRawAsync = promisify(inflateRaw)
const brotliAsync = promisify(brotliDecompress)

/** No coding, or one that changes nothing. */
export function isPlain(contentEncoding: string | undefined): boolean {
  return contentEncoding === undefined || /^\s*(?:identity)?\s*$/i.test(contentEncoding)
}

/**
 * Decodes up to `limitBytes`. `complete`: the whole body was given and its decoded form fits; else the beginning is
 * decoded as far as it goes or fits.
 */
export async function decodeBody(
  contentEncoding: string,
  body: { readonly bytes: Uint8Array; readonly complete: boolean },
  limitBytes: number,
): Promise<DecodedBody> {
  const coding = codingOf(contentEncoding, body.bytes)
  if (coding === undefined) return { kind: 'unsupported' }
  const options = { maxOutputLength: limitBytes, finishFlush: body.complete ? coding.finish : coding.flush }
  try {
    return decoded(await coding.whole(body.bytes, options), body.complete)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE') return { kind: 'broken' }
    // zlib gives no part of what is too large
    return decoded(await beginning(coding.stream({ finishFlush: coding.flush }), body.bytes, limitBytes), false)
  }
}

interface Coding {
  whole(bytes: Uint8Array, options: ZlibOptions): Promise<Buffer>
  stream(options: ZlibOptions): Duplex
  readonly finish: number
  readonly flush: number
}

function codingOf(contentEncoding: string, bytes: Uint8Array): Coding | undefined {
  const zlib = { finish: constants.Z_FINISH, flush: constants.Z_SYNC_FLUSH }
  switch (contentEncoding.trim().toLowerCase()) {
    case 'gzip':
    case 'x-gzip':
      return { ...zlib, whole: gunzipAsync, stream: createGunzip }
    case 'deflate':
      // RFC 9110 §8.4.1.2 means the zlib format; many senders leave its two bytes out
      return hasZlibHeader(bytes)
        ? { ...zlib, whole: inflateAsync, stream: createInflate }
        : { ...zlib, whole: inflateRawAsync, stream: createInflateRaw }
    case 'br':
      return {
        whole: brotliAsync,
        stream: createBrotliDecompress,
        finish: constants.BROTLI_OPERATION_FINISH,
        flush: constants.BROTLI_OPERATION_FLUSH,
      }
    default:
      return undefined
  }
}

/** The first `limitBytes` of what a stream makes of the bytes; less when it breaks before. */
async function beginning(stream: Duplex, bytes: Uint8Array, limitBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  stream.end(bytes)
  try {
    for await (const chunk of stream) {
      chunks.push(chunk as Buffer)
      length += (chunk as Buffer).length
      if (length >= limitBytes) break // ends the stream
    }
  } catch {
    // what came before the fault is what there is
  }
  return Buffer.concat(chunks).subarray(0, limitBytes)
}

function decoded(bytes: Uint8Array, complete: boolean): DecodedBody {
  return { kind: 'decoded', bytes, complete }
}

/** RFC 1950 §2.2: method 8, and a check that makes the first two bytes a multiple of 31. */
export function hasZlibHeader(bytes: Uint8Array): boolean {
  const [first = 0, second = 0] = bytes
  return (first & 0x0f) === 8 && ((first << 8) | second) % 31 === 0
}
