/**
 * Content codings: which one a client would take, and zlib's streams as body filters. The work itself is done on
 * libuv's threads.
 *
 * Source: RFC 9110 §8.4, §12.5.3; traffic-policy.md §5.5.
 */
import {
  type BrotliOptions,
  constants,
  createBrotliCompress,
  createBrotliDecompress,
  createDeflate,
  createGunzip,
  createGzip,
  createInflate,
  createInflateRaw,
  type ZlibOptions,
} from 'node:zlib'
import type { BodyFilter } from '../listener/front-end.ts'
import { hasZlibHeader } from './decoded-body.ts'
import { ZlibFilter } from './zlib-filter.ts'

/** Codings that we can put on. */
export type ContentCoding = 'gzip' | 'deflate' | 'br'

export const CONTENT_CODINGS: readonly ContentCoding[] = ['gzip', 'deflate', 'br']

const ZLIB: ZlibOptions = { level: 5 }
/** Brotli at its default takes a hundred times gzip's time; at 4 it is about as quick and still smaller. */
const BROTLI: BrotliOptions = {
  params: { [constants.BROTLI_PARAM_QUALITY]: 4, [constants.BROTLI_PARAM_LGWIN]: 18 },
}

/**
 * The coding of `allowed` that an Accept-Encoding value likes best; the first of them where several are liked alike.
 * Undefined: none of them may be used, or the client prefers the body as it is. No field means that nothing was asked for.
 */
export function negotiateCoding<C extends string>(accept: string | undefined, allowed: readonly C[]): C | undefined {
  if (accept === undefined) return undefined
  const weights = new Map<string, number>()
  for (const member of accept.split(',')) {
    const [name = '', ...parameters] = member.split(';')
    const coding = name.trim().toLowerCase()
    if (coding === '') continue
    weights.set(coding === 'x-gzip' ? 'gzip' : coding === 'x-compress' ? 'compress' : coding, weightOf(parameters))
  }
  const any = weights.get('*') ?? 0
  let best: C | undefined
  let bestWeight = 0
  for (const coding of allowed) {
    const weight = weights.get(coding) ?? any
    if (weight <= bestWeight) continue
    best = coding
    bestWeight = weight
  }
  // `identity` counts only where the client names it: unnamed it is acceptable, not preferred
  return bestWeight < (weights.get('identity') ?? 0) ? undefined : best
}

/** RFC 9110 §12.4.2; what is no weight counts as 0, because the member cannot be understood. */
function weightOf(parameters: readonly string[]): number {
  for (const parameter of parameters) {
    const match = /^\s*q\s*=\s*(.*?)\s*$/i.exec(parameter)
    if (match === null) continue
    return /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(match[1]!) ? Number(match[1]) : 0
  }
  return 1
}

/** A filter that puts a coding on. `flushes`: what has come goes out whenever no more is at hand (event streams). */
export function compressor(coding: ContentCoding, flushes: boolean): BodyFilter {
  switch (coding) {
    case 'gzip':
      return new ZlibFilter(createGzip(ZLIB), flushes ? constants.Z_SYNC_FLUSH : undefined)
    case 'deflate':
      return new ZlibFilter(createDeflate(ZLIB), flushes ? constants.Z_SYNC_FLUSH : undefined)
    case 'br':
      return new ZlibFilter(createBrotliCompress(BROTLI), flushes ? constants.BROTLI_OPERATION_FLUSH : undefined)
  }
}

/** A filter that takes a coding off, or undefined when we do not know it (or there are several). */
export function decompressor(contentEncoding: string): (() => BodyFilter) | undefined {
  switch (contentEncoding.trim().toLowerCase()) {
    case 'gzip':
    case 'x-gzip':
      return () => new ZlibFilter(createGunzip())
    case 'deflate':
      // which of the two formats it is shows in the first bytes
      return () => new ZlibFilter((first) => (hasZlibHeader(first) ? createInflate() : createInflateRaw()))
    case 'br':
      return () => new ZlibFilter(createBrotliDecompress())
    default:
      return undefined
  }
}
