/** Address data from databases in MaxMind's format, down to expressions. Source: traffic-policy.md §6.1, §6.3, appendix B. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  AddressDatabaseError,
  AddressDatabases,
  openAddressDatabase,
} from '../../../src/address-data/address-database.ts'
import { NO_FACTS } from '../../../src/address-data/address-facts.ts'
import { mmdb } from '../../support/mmdb.ts'
import { expressionOf, sourceOf } from '../expression/exchange-source.ts'
import { shown } from '../expression/shown.ts'

let folder = ''
let databases: AddressDatabases
const write = (name: string, content: Buffer): string => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-mmdb-'))
  const city = mmdb({
    '203.0.113.0/24': {
      city: { names: { de: 'Wien', en: 'Vienna' } },
      continent: { code: 'EU', names: { en: 'Europe' } },
      country: { iso_code: 'AT', is_in_european_union: true, names: { en: 'Austria' } },
      registered_country: { iso_code: 'US', names: { en: 'United States' } },
      subdivisions: [{ names: { en: 'Vienna (state)' } }, { names: { en: 'second' } }],
      location: { latitude: 48.2, longitude: 16.37, accuracy_radius: 20, time_zone: 'Europe/Vienna' },
      postal: { code: '1010' },
    },
    '198.51.100.0/25': { country: { iso_code: 'US', names: { en: 'United States' } }, location: { metro_code: 807 } },
  })
  const asn = mmdb({
    '203.0.113.0/25': { autonomous_system_number: 64_500, autonomous_system_organization: 'EXAMPLE-NET' },
  })
  const categories = mmdb({
    '203.0.113.9/32': { categories: ['com.github.actions'], is_tor_exit_node: true },
    '192.0.2.0/24': { categories: ['blocklist.firehol_org.level_1'] },
  })
  databases = new AddressDatabases(
    [write('city.mmdb', city), write('asn.mmdb', asn), write('categories.mmdb', categories)].map(openAddressDatabase),
  )
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const evaluate = (text: string, clientAddress = '203.0.113.9'): string => {
  const source = sourceOf({ clientAddress })
  const connection = { ...source.connection, addressData: (address: string) => databases.lookUp(address) }
  return shown(expressionOf(text).evaluate({ ...source, connection }))
}

describe('address data', () => {
  it.each([
    [`conn.client_ip.geo.location.country_code`, `'AT'`],
    [`conn.client_ip.geo.location.country`, `'Austria'`],
    [`conn.client_ip.geo.location.city`, `'Vienna'`],
    [`conn.client_ip.geo.location.subdivision`, `'Vienna (state)'`],
    [`conn.client_ip.geo.location.continent`, `'Europe'`],
    [`conn.client_ip.geo.location.timezone`, `'Europe/Vienna'`],
    [`double(conn.client_ip.geo.location.latitude) > 48.0`, 'true'],
    [`conn.client_ip.geo.location.longitude`, `'16.37'`],
    [`conn.client_ip.geo.location.radius`, `'20'`],
    [`conn.client_ip.geo.location.postal_code`, `'1010'`],
    [`conn.client_ip.geo.location.metro_code != ''`, 'false'],
    [`conn.client_ip.geo.location.is_eu`, 'true'],
    [`conn.client_ip.geo.registered_location.country_code`, `'US'`],
    [`conn.client_ip.geo.registered_location.is_eu`, 'false'],
    [`conn.client_ip.as.number == 64500`, 'true'],
    [`conn.client_ip.as.organization`, `'EXAMPLE-NET'`],
    [`'com.github.actions' in conn.client_ip.categories`, 'true'],
    [`'com.github' in conn.client_ip.categories`, 'true'],
    [`'proxy.anonymous' in conn.client_ip.categories`, 'true'],
    [`conn.client_ip.is_tor_node`, 'true'],
    [`conn.client_ip.is_on_blocklist`, 'false'],
    [`conn.geo.country_code + conn.geo.city + conn.geo.latitude`, `'ATVienna48.2'`],
    [`conn.server_ip.geo.location.metro_code`, `'807'`],
  ])('§6.3: %s is %s', (text, value) => {
    expect(evaluate(text)).toBe(value)
  })

  it('appendix B: a blocklist category puts an address on a blocklist', () => {
    expect(evaluate('conn.client_ip.is_on_blocklist', '192.0.2.77')).toBe('true')
  })

  it('§6.1: what no database knows is empty or absent', () => {
    for (const address of ['8.8.8.8', '2001:db8::1', 'no address']) expect(databases.lookUp(address)).toEqual(NO_FACTS)
    expect(evaluate(`conn.geo.country_code == ''`, '8.8.8.8')).toBe('true')
    expect(evaluate('has(conn.client_ip.as.number)', '8.8.8.8')).toBe('false')
    expect(shown(expressionOf(`conn.client_ip.categories`).evaluate(sourceOf()))).toBe('[]')
  })

  it('reads a file again only when it changed', () => {
    const path = write('one.mmdb', mmdb({ '10.0.0.0/8': { country: { iso_code: 'AA' } } }))
    const first = openAddressDatabase(path)
    expect(openAddressDatabase(path)).toBe(first)
    write('one.mmdb', mmdb({ '10.0.0.0/8': { country: { iso_code: 'LONGER' } } }))
    const again = new AddressDatabases([openAddressDatabase(path)])
    expect(again.lookUp('10.1.2.3').location.countryCode).toBe('LONGER')
  })

  it('refuses a file that is no database', () => {
    const path = write('text.mmdb', Buffer.from('no database'))
    expect(() => openAddressDatabase(path)).toThrow(AddressDatabaseError)
    expect(() => openAddressDatabase(join(folder, 'none.mmdb'))).toThrow('no such file')
  })
})
