/**
 * The rows of `npm run bench:proxy`: which request, how many connections, how our side is set up, and beside whom.
 *
 * `policy`: none, or the microservices policy with (`crs`) or without rule set; its buckets in memory, in Redis, or leased from
 * it (one key for all requests, so it is hot). `beside`: peers of the same round; `plain` is our own gateway without a
 * policy, `memory` ours with memory buckets, `one-worker` ours with one worker. `engine`: what our listener runs on.
 * `streams`: clients speak HTTP/2, with so many requests at a time on each connection.
 * `bar`: what issue and goals allow, either `ratio` (ours over the peer's CPU per request) or `addedUs` (ours minus it).
 */

const HEADERS = {
  'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36',
  accept: 'application/json',
  'accept-language': 'en-US,en;q=0.9',
  'accept-encoding': 'gzip, deflate, br',
  cookie: 'session=abc123def456; theme=dark',
}

const GET = { method: 'GET', path: '/api/users/123?include=orders&page=2&q=hello+world', headers: HEADERS }
const POST = {
  method: 'POST',
  path: '/api/users',
  headers: { ...HEADERS, 'content-type': 'application/json' },
  body: JSON.stringify({ name: 'Ada Lovelace', tags: ['mathematics', 'engines'], note: 'n'.repeat(950) }),
}

const PLAIN = {
  request: GET,
  connections: 64,
  workers: 1,
  policy: 'none',
  buckets: 'memory',
  engine: 'uws',
  accessLog: false,
  tls: false,
  beside: ['nginx', 'haproxy', 'envoy'],
  bars: {},
}
const FULL = {
  ...PLAIN,
  policy: 'full',
  beside: ['plain', 'nginx'],
}

export const ROWS = {
  'plain-get': { ...PLAIN, bars: { nginx: { ratio: 1.2 } } },
  'plain-get-log': { ...PLAIN, accessLog: true },
  'plain-get-1000': { ...PLAIN, connections: 1000 },
  'plain-get-2w': {
    ...PLAIN,
    workers: 2,
    beside: ['one-worker', 'nginx', 'haproxy', 'envoy'],
    bars: { 'one-worker': { ratio: 1.1 } },
  },
  'get-10k': { ...PLAIN, request: { ...GET, path: '/10k.bin' } },
  'get-1m': { ...PLAIN, request: { ...GET, path: '/1m.bin' }, connections: 16, bars: { nginx: { ratio: 1.5 } } },
  'post-1k': { ...PLAIN, request: POST },
  'tls-get': { ...PLAIN, tls: true },
  'full-crs': { ...FULL, policy: 'full-crs', bars: { plain: { addedUs: 60 } } },
  'full-no-crs': { ...FULL, bars: { plain: { addedUs: 12 } } },
  'native-plain-get': { ...PLAIN, engine: 'native', beside: ['nginx'], bars: { nginx: { ratio: 0.9 } } },
  'native-get-1m': {
    ...PLAIN,
    engine: 'native',
    request: { ...GET, path: '/1m.bin' },
    connections: 16,
    beside: ['nginx'],
    bars: { nginx: { ratio: 1.0 } },
  },
  'native-tls-get': { ...PLAIN, engine: 'native', tls: true, beside: ['nginx'], bars: { nginx: { ratio: 1.1 } } },
  'native-h2-get': {
    ...PLAIN,
    engine: 'native',
    connections: 16,
    streams: 8,
    beside: ['nginx'],
    bars: { nginx: { ratio: 1.0 } },
  },
  'native-full-no-crs': { ...FULL, engine: 'native', beside: ['nginx'], bars: { nginx: { ratio: 1.2 } } },
  'full-redis': { ...FULL, buckets: 'redis', bars: { plain: { addedUs: 20 } } },
  'full-lease': { ...FULL, buckets: 'lease', beside: ['memory', 'plain'], bars: { memory: { addedUs: 4 } } },
}
