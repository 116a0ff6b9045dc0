/**
 * What a User-Agent field says of its sender. The only importer of `bowser`.
 * Source: traffic-policy.md §6.7; RFC 9110 §10.1.5.
 */
import { parse as parseBrowser } from 'bowser'

export interface UserAgent {
  readonly name: string
  readonly version: string
  readonly os: string
  readonly osVersion: string
  /** Model or vendor of the device. */
  readonly device: string
  /** The page that a crawler names. */
  readonly url: string
  readonly kind: 'mobile' | 'tablet' | 'desktop' | 'bot' | 'other'
}

/** Longer texts are cut: nobody's real one is. */
const MOST_CHARS = 1024
/** Texts whose meaning is remembered, per process. */
const REMEMBERED = 1024
/** The first product of the field: `curl/8.5.0`. */
const PRODUCT = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})(?:\/([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}))?/
const PAGE = /\+?(https?:\/\/[^\s;,)]{1,200})/
const CRAWLER = /bot\b|crawl|spider|slurp/i

const NOBODY: UserAgent = { name: '', version: '', os: '', osVersion: '', device: '', url: '', kind: 'other' }
const remembered = new Map<string, UserAgent>()

/** Never throws; what cannot be told is empty. */
export function parseUserAgent(text: string): UserAgent {
  if (text === '') return NOBODY
  const cut = text.slice(0, MOST_CHARS)
  const known = remembered.get(cut)
  if (known !== undefined) return known
  const parsed = parse(cut)
  if (remembered.size >= REMEMBERED) remembered.clear()
  remembered.set(cut, parsed)
  return parsed
}

function parse(text: string): UserAgent {
  const { browser, os, platform } = parseBrowser(text)
  const product = PRODUCT.exec(text)
  const isKnown = browser.name !== undefined && browser.name !== ''
  const isBot = platform.type === 'bot' || CRAWLER.test(text)
  return {
    name: isKnown ? browser.name! : (product?.[1] ?? ''),
    version: isKnown ? (browser.version ?? '') : (product?.[2] ?? ''),
    os: os.name ?? '',
    osVersion: os.version ?? '',
    device: platform.model ?? platform.vendor ?? '',
    url: PAGE.exec(text)?.[1] ?? '',
    kind: isBot ? 'bot' : kindOf(platform.type),
  }
}

function kindOf(type: string | undefined): UserAgent['kind'] {
  return type === 'mobile' || type === 'tablet' || type === 'desktop' ? type : 'other'
}
