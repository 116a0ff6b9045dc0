/** The versions of TLS that listeners speak with clients, as far as their engine can be told. */
import type { Diagnostics } from './diagnostic.ts'
import type { Span } from './source.ts'

export type TlsVersion = '1.2' | '1.3'

/** The oldest and the newest version. */
export type TlsRange = readonly [TlsVersion, TlsVersion]

/** Both versions that are still spoken (RFC 8996 ended 1.0 and 1.1). */
export const BOTH_VERSIONS: TlsRange = ['1.2', '1.3']

const FIXED = 'the front end uws (uWebSockets.js) speaks TLS 1.2 and 1.3, and its range of versions cannot be changed'

/** A version where it is written. */
interface WrittenVersion {
  readonly text: string
  readonly span: Span
}

/**
 * What `min_version` and `max_version` ask for, each `otherwise` where it is left out. `isFixed`: the engine has one range only;
 * another one is an error that names it.
 */
export function tlsRange(
  [min, max]: readonly [WrittenVersion | undefined, WrittenVersion | undefined],
  isFixed: boolean,
  otherwise: TlsRange,
  diagnostics: Diagnostics,
): TlsRange {
  for (const [version, fixed] of [
    [min, BOTH_VERSIONS[0]],
    [max, BOTH_VERSIONS[1]],
  ] as const) {
    if (version === undefined) continue
    if (isFixed) {
      const hint = 'leave min_version and max_version out, or give the listener engine: native'
      if (version.text !== fixed) diagnostics.error('TLS_RANGE', FIXED, version.span, hint)
    } else if (!isSpoken(version.text)) {
      diagnostics.error('TLS_RANGE', `TLS ${version.text} is not spoken any more`, version.span, 'write 1.2 or 1.3')
    }
  }
  if (isFixed) return BOTH_VERSIONS
  const range: TlsRange = [spoken(min, otherwise[0]), spoken(max, otherwise[1])]
  if (range[0] > range[1]) {
    const text = `no version of TLS is from ${range[0]} and up to ${range[1]}`
    diagnostics.error('TLS_RANGE', text, (max ?? min)?.span)
  }
  return range
}

function spoken(version: WrittenVersion | undefined, otherwise: TlsVersion): TlsVersion {
  return version !== undefined && isSpoken(version.text) ? version.text : otherwise
}

function isSpoken(text: string): text is TlsVersion {
  return text === '1.2' || text === '1.3'
}
