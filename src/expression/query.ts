/** Query strings as CEL values. Source: traffic-policy.md §6.7 (`query_params`), §7.3; WHATWG URL, application/x-www-form-urlencoded. */
import { EntryMap } from './value.ts'
import type { CelMap } from './value.ts'

/** Decoded name and value pairs, in order. `+` is a blank; what is not valid percent-encoding stays as it is. */
export function queryPairs(query: string): (readonly [string, string])[] {
  if (query === '') return []
  return query
    .split('&')
    .filter((part) => part !== '')
    .map((part) => {
      const equals = part.indexOf('=')
      if (equals === -1) return [decoded(part), ''] as const
      return [decoded(part.slice(0, equals)), decoded(part.slice(equals + 1))] as const
    })
}

function decoded(text: string): string {
  const spaced = text.includes('+') ? text.replaceAll('+', ' ') : text
  if (!spaced.includes('%')) return spaced
  try {
    return decodeURIComponent(spaced)
  } catch {
    return percentDecoded(spaced)
  }
}

/** Decodes the escapes that are valid and keeps the rest; bytes that are no UTF-8 become U+FFFD. */
export function percentDecoded(text: string): string {
  return text.replace(/(?:%[0-9a-fA-F]{2})+/g, (run) => Buffer.from(run.replaceAll('%', ''), 'hex').toString('utf8'))
}

/** list<string> map, case of names preserved. */
export function queryParameters(query: string): CelMap {
  const lists = new Map<string, string[]>()
  for (const [name, value] of queryPairs(query)) {
    const list = lists.get(name)
    if (list === undefined) lists.set(name, [value])
    else list.push(value)
  }
  return EntryMap.of(lists)
}
