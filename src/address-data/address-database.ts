/**
 * What is known of an address: place, network, categories. From databases in MaxMind's format that the operator
 * supplies. The only importer of `maxmind`.
 *
 * Every database may say anything; the first that says something wins. Categories of all of them count.
 * Source: traffic-policy.md §6.3, appendix B; MaxMind DB file format 2.0.
 */
import { readFileSync, statSync } from 'node:fs'
import { Reader, type Response } from 'maxmind'
import { NO_FACTS, type AddressFacts, type PlaceFacts } from './address-facts.ts'

/** Addresses whose facts are remembered, per configuration. */
const REMEMBERED = 4096

/** A database as it was when it was read. */
export interface OpenDatabase {
  readonly reader: Reader<Response>
  readonly version: string
}

/** A database that cannot be used; the message is one sentence. */
export class AddressDatabaseError extends Error {
  override readonly name = 'AddressDatabaseError'
}

/** Configurations that name the same unchanged file share what was read of it. */
const opened = new Map<string, WeakRef<OpenDatabase>>()

/** Databases in the order in which they are asked. */
export class AddressDatabases {
  readonly #databases: readonly OpenDatabase[]
  readonly #remembered = new Map<string, AddressFacts>()

  constructor(databases: readonly OpenDatabase[]) {
    this.#databases = databases
  }

  /** The facts of an address as text; none for one that no database holds. Never throws. */
  lookUp(address: string): AddressFacts {
    if (this.#databases.length === 0) return NO_FACTS
    const known = this.#remembered.get(address)
    if (known !== undefined) return known
    const facts = factsOf(
      this.#databases.map((database) => recordOf(database, address)).filter((record) => record !== undefined),
    )
    if (this.#remembered.size >= REMEMBERED) this.#remembered.clear()
    this.#remembered.set(address, facts)
    return facts
  }
}

/** Reads a file, unless what was read of it is still at hand. Throws AddressDatabaseError. */
export function openAddressDatabase(path: string): OpenDatabase {
  try {
    const { mtimeMs, size, ino } = statSync(path)
    const version = `${ino} ${mtimeMs} ${size}`
    const known = opened.get(path)?.deref()
    if (known?.version === version) return known
    const database: OpenDatabase = { reader: new Reader<Response>(readFileSync(path)), version }
    opened.set(path, new WeakRef(database))
    return database
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new AddressDatabaseError(
      code === 'ENOENT' ? `${path}: no such file` : `${path} is no database in MaxMind's format: ${message}`,
    )
  }
}

type Fields = Readonly<Record<string, unknown>>

function recordOf({ reader }: OpenDatabase, address: string): Fields | undefined {
  try {
    return fieldsOf(reader.get(address))
  } catch {
    // no address, or a database cut short: it knows nothing of it
    return undefined
  }
}

function factsOf(records: readonly Fields[]): AddressFacts {
  if (records.length === 0) return NO_FACTS
  const categories = categoriesOf(records)
  const place = (key: string): PlaceFacts => placeOf(records, key)
  const location = (key: string): unknown => first(records, (record) => fieldsOf(record['location'])?.[key])
  const postal = first(records, (record) => fieldsOf(record['postal'])?.['code'])
  const asNumber = first(records, (record) => record['autonomous_system_number'])
  return {
    categories: [...categories],
    isOnBlocklist:
      [...categories].some((name) => name === 'blocklist' || name.startsWith('blocklist.')) ||
      records.some((record) => record['is_on_blocklist'] === true),
    isTorNode: categories.has('proxy.anonymous.tor'),
    asNumber: typeof asNumber === 'number' ? asNumber : undefined,
    asOrganization: textOf(first(records, (record) => record['autonomous_system_organization'])),
    location: {
      ...place('country'),
      city: nameOf(first(records, (record) => record['city'])),
      subdivision: nameOf(first(records, (record) => listOf(record['subdivisions'])[0])),
      timezone: textOf(location('time_zone')),
      metroCode: textOf(location('metro_code')),
      latitude: textOf(location('latitude')),
      longitude: textOf(location('longitude')),
      radius: textOf(location('accuracy_radius')),
      postalCode: textOf(postal),
    },
    registeredLocation: {
      ...place('registered_country'),
      city: '',
      subdivision: '',
      timezone: '',
      metroCode: '',
    },
  }
}

function placeOf(records: readonly Fields[], key: string): PlaceFacts {
  const country = fieldsOf(first(records, (record) => record[key]))
  const isEu = country?.['is_in_european_union']
  return {
    city: '',
    subdivision: '',
    timezone: '',
    metroCode: '',
    continent: nameOf(first(records, (record) => record['continent'])),
    country: nameOf(country),
    countryCode: textOf(country?.['iso_code']),
    // the databases leave the flag out where it is false
    isEu: typeof isEu === 'boolean' ? isEu : country === undefined ? undefined : false,
  }
}

/** The flags of MaxMind's Anonymous IP database, as appendix B names them. */
const FLAGS: readonly (readonly [flag: string, category: string])[] = [
  ['is_anonymous', 'proxy.anonymous'],
  ['is_anonymous_proxy', 'proxy.anonymous'],
  ['is_anonymous_vpn', 'proxy.anonymous.vpn'],
  ['is_public_proxy', 'proxy.open'],
  ['is_tor_exit_node', 'proxy.anonymous.tor'],
]

/** Each dotted beginning of a name is a category as well. */
function categoriesOf(records: readonly Fields[]): ReadonlySet<string> {
  const names = new Set<string>()
  for (const record of records) {
    const traits = { ...fieldsOf(record['traits']), ...record }
    const flagged = FLAGS.flatMap(([flag, category]) => (traits[flag] === true ? [category] : []))
    for (const name of [...listOf(record['categories']), ...flagged]) {
      if (typeof name !== 'string') continue
      for (let dot = name.length; dot > 0; dot = name.lastIndexOf('.', dot - 1)) names.add(name.slice(0, dot))
    }
  }
  return names
}

function first(records: readonly Fields[], read: (record: Fields) => unknown): unknown {
  for (const record of records) {
    const value = read(record)
    if (value !== undefined && value !== null) return value
  }
  return undefined
}

/** English, as §6.3 says. */
function nameOf(value: unknown): string {
  return textOf(fieldsOf(fieldsOf(value)?.['names'])?.['en'])
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : []
}

function textOf(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}
