/**
 * JSON as a token or a key set may carry it: bounded depth, no member twice.
 * Source: RFC 7515 §4, RFC 7519 §4 (names must be unique; a parser may refuse), threats.md T-53.
 */
import type { JsonValue } from '../expression/source.ts'

export type JsonObject = { readonly [key: string]: JsonValue }

/** The value, or why it was refused; `reason` never quotes the text. */
export type StrictJson =
  | { readonly ok: true; readonly value: JsonValue }
  | { readonly ok: false; readonly reason: string }

/** Levels of arrays and objects that are read at most. Claims in the wild need five or six. */
export const MAX_JSON_DEPTH = 32

/**
 * Parses a JSON text. Refuses what JSON.parse refuses, more than `maxDepth` levels, and an object that has one name
 * twice: the gateway and the service behind it must not read different members (JSON.parse keeps the last).
 */
export function parseStrictJson(text: string, maxDepth: number = MAX_JSON_DEPTH): StrictJson {
  // The depth is known before JSON.parse and countMembers see the text, so neither can be led deep.
  const written = scan(text, maxDepth)
  if (written === TOO_DEEP) return { ok: false, reason: 'the JSON is nested too deep' }
  let value: JsonValue
  try {
    value = JSON.parse(text) as JsonValue
  } catch {
    return { ok: false, reason: 'not JSON' } // the parser's message quotes the text, which may hold a token
  }
  // Every member has one colon outside of strings; JSON.parse folds members of one name into one.
  if (countMembers(value) !== written) return { ok: false, reason: 'a member occurs twice' }
  return { ok: true, value }
}

/** An object and nothing else: no array, no null. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const TOO_DEEP = -1
const QUOTE = 0x22
const COLON = 0x3a
const BACKSLASH = 0x5c

/** Number of colons outside of strings, or TOO_DEEP. On texts that are not JSON the number means nothing. */
function scan(text: string, maxDepth: number): number {
  let depth = 0
  let colons = 0
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit === QUOTE) {
      for (at++; at < text.length; at++) {
        const inner = text.charCodeAt(at)
        if (inner === QUOTE) break
        if (inner === BACKSLASH) at++
      }
    } else if (unit === COLON) {
      colons++
    } else if (unit === 0x7b || unit === 0x5b) {
      depth++
      if (depth > maxDepth) return TOO_DEEP
    } else if (unit === 0x7d || unit === 0x5d) {
      depth--
    }
  }
  return colons
}

function countMembers(value: JsonValue): number {
  if (typeof value !== 'object' || value === null) return 0
  let members = 0
  if (Array.isArray(value)) {
    for (const item of value as readonly JsonValue[]) members += countMembers(item)
    return members
  }
  // Object.keys sees a member named __proto__ as well: JSON.parse makes it an own property.
  const object = value as JsonObject
  for (const key of Object.keys(object)) members += 1 + countMembers(object[key]!)
  return members
}
