/**
 * Functions on lists of models, providers, authors and keys: they exist where `ai` does, in the strategies of `ai-gateway`.
 * Entries are maps; one is found by its `id`, one of its `id_aliases`, or `provider:id`.
 *
 * Source: traffic-policy.md appendix C.
 */
import { EvaluationError } from '../evaluation-error.ts'
import { CelMap, type CelList, type CelValue, isList } from '../value.ts'
import { wantList, wantMap, wantText } from './arguments.ts'
import type { FunctionServices, FunctionTable } from './registry.ts'

export function defineModelFunctions(table: FunctionTable, { random }: FunctionServices): void {
  const filters: Record<string, (entry: CelValue, names: ReadonlySet<string>) => boolean> = {
    only: (entry, names) => isNamed(entry, names),
    ignore: (entry, names) => !isNamed(entry, names),
    onlyProviders: (entry, names) => names.has(text(entry, 'provider_id')),
    ignoreProviders: (entry, names) => !names.has(text(entry, 'provider_id')),
    onlyAuthors: (entry, names) => names.has(text(entry, 'author_id')),
    ignoreAuthors: (entry, names) => !names.has(text(entry, 'author_id')),
    inRegion: (entry, names) => datacenters(entry).some((place) => names.has(text(place, 'region'))),
    inCountryCode: (entry, names) => datacenters(entry).some((place) => names.has(text(place, 'country_code'))),
  }
  for (const [name, keeps] of Object.entries(filters)) {
    const overloads = [`list(dyn).${name}(list(string)) -> list(dyn)`, `list(dyn).${name}(string) -> list(dyn)`]
    table.define(name, overloads, (frame, a, b) => {
      const list = wantList(a, name)
      frame.spendLength(list.length * 16)
      const names = new Set(isList(b) ? b.map((item) => wantText(item, name)) : [wantText(b, name)])
      return list.filter((entry) => keeps(entry, names))
    })
  }
  table.define('underCost', ['list(dyn).underCost(string, dyn) -> list(dyn)'], (_, a, b, c) => {
    const kind = wantText(b, 'underCost')
    const most = numberOf(c)
    return wantList(a, 'underCost').filter((entry) => priceOf(entry, kind) <= most)
  })
  table.define('sortBy', ['list(dyn).sortBy(string) -> list(dyn)'], (_, a, b) => {
    const field = wantText(b, 'sortBy')
    if (field !== 'price')
      throw new EvaluationError('sortBy: only "price" is known here; sortBy(m, key) sorts by a key')
    const price = (entry: CelValue): number => priceOf(entry, 'input') + priceOf(entry, 'output')
    return [...wantList(a, 'sortBy')].sort((left, right) => compare(price(left), price(right)))
  })
  table.define(
    'random',
    ['list(dyn).random() -> dyn'],
    (_, a) => {
      const list = wantList(a, 'random')
      if (list.length === 0) throw new EvaluationError('random: the list is empty')
      return list[Math.floor(random() * list.length)]!
    },
    { pure: false },
  )
  table.define(
    'randomize',
    ['list(dyn).randomize() -> list(dyn)'],
    (frame, a) => {
      const list = [...wantList(a, 'randomize')]
      frame.spendLength(list.length)
      // Fisher and Yates
      for (let last = list.length - 1; last > 0; last--) {
        const at = Math.floor(random() * (last + 1))
        const kept = list[last]!
        list[last] = list[at]!
        list[at] = kept
      }
      return list
    },
    { pure: false },
  )
  const get = (list: CelList, names: ReadonlySet<string>, name: string): CelValue => {
    const found = list.find((entry) => isNamed(entry, names))
    if (found === undefined) throw new EvaluationError(`${name}: there is no ${[...names].join(', ')}`)
    return found
  }
  table.define(
    'get',
    ['list(dyn).get(string) -> dyn', 'list(dyn).get(string, string) -> dyn'],
    (_, a, b, c: CelValue | undefined) => {
      const first = wantText(b, 'get')
      return get(wantList(a, 'get'), new Set([c === undefined ? first : `${first}:${wantText(c, 'get')}`]), 'get')
    },
  )
  table.define('getModel', ['list(dyn).getModel(string) -> dyn'], (_, a, b) =>
    get(wantList(a, 'getModel'), new Set([wantText(b, 'getModel')]), 'getModel'),
  )
  table.define('getMetadata', ['dyn.getMetadata(string) -> dyn'], (_, a, b) => {
    let value: CelValue | undefined = wantMap(a, 'getMetadata').get('metadata')
    for (const key of wantText(b, 'getMetadata').split('.'))
      value = value instanceof CelMap ? value.get(key) : undefined
    return value ?? null
  })
}

function text(entry: CelValue, field: string): string {
  const value = entry instanceof CelMap ? entry.get(field) : undefined
  return typeof value === 'string' ? value : ''
}

function isNamed(entry: CelValue, names: ReadonlySet<string>): boolean {
  const id = text(entry, 'id')
  const provider = text(entry, 'provider_id')
  if (names.has(id) || (provider !== '' && names.has(`${provider}:${id}`))) return true
  const aliases = entry instanceof CelMap ? entry.get('id_aliases') : undefined
  return (
    aliases !== undefined && isList(aliases) && aliases.some((alias) => typeof alias === 'string' && names.has(alias))
  )
}

function datacenters(entry: CelValue): CelList {
  const value = entry instanceof CelMap ? entry.get('datacenters') : undefined
  return value !== undefined && isList(value) ? value : []
}

/** Infinity when nothing is known: what has no price is not cheap. */
function priceOf(entry: CelValue, kind: string): number {
  const pricing = entry instanceof CelMap ? entry.get('pricing') : undefined
  const value = pricing instanceof CelMap ? pricing.get(kind) : undefined
  return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : Infinity
}

function numberOf(value: CelValue): number {
  if (typeof value === 'number' || typeof value === 'bigint') return Number(value)
  throw new EvaluationError('underCost: the limit must be a number')
}

function compare(left: number, right: number): number {
  return left === right ? 0 : left < right ? -1 : 1
}
