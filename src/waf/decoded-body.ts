/**
 * Bodies as the rules must see them: one layer of gzip, deflate or br taken off, within a limit. What travels on stays
 * as it was sent.
 *
 * Source: T-43 (compressed requests are decoded under a limit or refused), T-47 (response rules see decoded bodies).
 */
import { promisify } from 'node:util'
import { brotliDecompress, constants, gunzip, inflate, inflateRaw } from 'node:zlib'

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
 * Decodes up to `limitBytes`. `complete`: the whole body was given and its decoded form fits; of an incomplete one the
 * beginning is decoded as far as it goes.
 */
export async function decodeBody(
  contentEncoding: string,
  body: { readonly bytes: Uint8Array; readonly complete: boolean },
  limitBytes: number,
): Promise<DecodedBody> {
  const options = {
    maxOutputLength: limitBytes,
    finishFlush: body.complete ? constants.Z_FINISH : constants.Z_SYNC_FLUSH,
  }
  try {
    switch (contentEncoding.trim().toLowerCase()) {
      case 'gzip':
      case 'x-gzip':
        return decoded(await gunzipAsync(body.bytes, options), body.complete)
      case 'deflate':
        // RFC 9110 §8.4.1.2 means the zlib format; many senders leave its two bytes out
        return decoded(
          await (hasZlibHeader(body.bytes) ? inflateAsync : inflateRawAsync)(body.bytes, options),
          body.complete,
        )
      case 'br':
        return decoded(
          await brotliAsync(body.bytes, {
            maxOutputLength: limitBytes,
            finishFlush: body.complete ? constants.BROTLI_OPERATION_FINISH : constants.BROTLI_OPERATION_FLUSH,
          }),
          body.complete,
        )
      default:
        return { kind: 'unsupported' }
    }
  } catch (error) {
    // a body that grows beyond the limit is cut there by refusing it: zlib gives no part of it
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      return { kind: 'decoded', bytes: new Uint8Array(0), complete: false }
    }
    return { kind: 'broken' }
  }
}

function decoded(bytes: Uint8Array, complete: boolean): DecodedBody {
  return { kind: 'decoded', bytes, complete }
}

/** RFC 1950 §2.2: method 8, and a check that makes the first two bytes a multiple of 31. */
function hasZlibHeader(bytes: Uint8Array): boolean {
  const [first = 0, second = 0] = bytes
  return (first & 0x0f) === 8 && ((first << 8) | second) % 31 === 0
}
