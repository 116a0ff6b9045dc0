/** `req.user_agent.*`. Source: traffic-policy.md §6.7. */
import { describe, expect, it } from 'vitest'
import { parseUserAgent } from '../../../src/expression/user-agent.ts'
import { expressionOf, sourceOf } from './exchange-source.ts'

const IPHONE =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1'
const IPAD =
  'Mozilla/5.0 (iPad; CPU OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.5 Mobile/15E148 Safari/604.1'
const CHROME =
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36'

describe('user agents', () => {
  it.each([
    [IPHONE, { name: 'Safari', version: '17.0', os: 'iOS', osVersion: '17.0', device: 'iPhone', kind: 'mobile' }],
    [IPAD, { name: 'Safari', os: 'iOS', device: 'iPad', kind: 'tablet' }],
    [CHROME, { name: 'Chrome', version: '120.0.0.0', os: 'Windows', kind: 'desktop' }],
    [
      'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)',
      { name: 'Googlebot', version: '2.1', url: 'http://www.google.com/bot.html', kind: 'bot' },
    ],
    ['ExampleSpider/1.2 (+https://spider.example/about)', { kind: 'bot', url: 'https://spider.example/about' }],
    ['curl/8.5.0', { name: 'curl', version: '8.5.0', os: '', device: '', url: '', kind: 'other' }],
    ['', { name: '', version: '', kind: 'other' }],
    ['\u0000 (((', { name: '', kind: 'other' }],
  ])('%s', (text, expected) => {
    expect(parseUserAgent(text)).toMatchObject(expected)
  })

  it('a text beyond any real one is cut, not refused', () => {
    expect(parseUserAgent(`curl/8.5.0 ${'x'.repeat(100_000)}`)).toMatchObject({ name: 'curl', kind: 'other' })
  })

  it('is a text with fields', () => {
    const source = sourceOf({ headers: [['user-agent', IPHONE]] })
    expect(expressionOf(`req.user_agent.is_mobile && req.user_agent.contains('iPhone')`).test(source)).toBe(true)
    expect(expressionOf(`req.user_agent.os == 'iOS' && !req.user_agent.is_bot`).test(source)).toBe(true)
    expect(expressionOf(`req.user_agent.name == '' && !req.user_agent.is_desktop`).test(sourceOf())).toBe(true)
  })
})
