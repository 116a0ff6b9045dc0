/**
 * What `bench:waf` sends: the same bytes in every run, except for the rows that end in `-fresh`, which never repeat a
 * value. Each row has a twin that carries an attack (or a leak), to prove that the part which costs is looked at.
 */

const WORDS =
  `anchor autumn bakery balcony bamboo basket beacon bicycle blanket bottle branch bridge bronze butter cabin candle canyon
carpet castle cedar chapter cherry circle cliff clover coffee comet copper coral corner cottage cotton county crystal curtain
daisy desert dinner dolphin dragon eagle elbow ember engine envelope evening fabric falcon feather fern fiddle flower forest
fountain garden ginger glacier granite guitar hammer harbour harvest hazel helmet hollow honey island ivory jacket jasmine
juniper kettle kitten ladder lagoon lantern lemon library linen lobster maple marble meadow melon mirror mountain music
napkin nectar needle oasis ocean olive orchard otter paddle paper parade pebble pepper piano pillow planet pocket pony puzzle
quartz quilt rabbit rain ribbon river robin saddle saffron salmon sandal season shadow shell silver sparrow spring stable
summer sunset teapot thunder timber tulip turtle valley velvet village violin walnut water willow window winter yellow`.split(
    /\s+/,
  )
const SQL_INJECTION = "1' UNION SELECT username, password FROM users -- "
const SCRIPT = '<script>alert(document.cookie)</script>'
const SQL_ERROR = 'You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version'

/** xorshift32: the same sequence for the same seed. */
function sequenceOf(seed) {
  let state = seed
  const next = (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
  const letters = (count) => Array.from({ length: count }, () => String.fromCharCode(97 + next(26))).join('')
  const words = (count) => Array.from({ length: count }, () => WORDS[next(WORDS.length)]).join(' ')
  return { next, words, letters }
}

function small(random, note) {
  return JSON.stringify({
    id: 1000 + random.next(9000),
    customer: { name: random.words(2), email: `${random.words(1)}@example.com`, city: random.words(1), zip: '04103' },
    items: Array.from({ length: 6 }, (_, place) => ({
      sku: `SKU-${1000 + place}`,
      title: random.words(3),
      quantity: 1 + random.next(9),
      price: random.next(9900) / 100,
    })),
    note: note ?? random.words(50),
    express: true,
  })
}

/** 950 arguments, 103 kB. */
function form(random, last = '') {
  const fields = Array.from(
    { length: 950 },
    (_, place) => `field_${String(place).padStart(3, '0')}=${random.words(16).slice(0, 98).replaceAll(' ', '+')}`,
  )
  return fields.join('&') + encodeURIComponent(last)
}

/** 100 kB with six leaves a record: below both engines' limit of 1,000 arguments. */
function big(random, last = '') {
  const records = []
  for (let bytes = 0; bytes < 99_000; bytes += JSON.stringify(records.at(-1)).length + 1) {
    records.push({
      id: records.length,
      name: random.words(2),
      text: random.words(120),
      tags: [random.words(1), random.words(1)],
      price: random.next(99_900) / 100,
    })
  }
  records.at(-1).text += last
  return JSON.stringify({ records })
}

/** JSON of 1 MB in long texts: below the limit of 1,000 arguments. */
export function millionBytes() {
  const random = sequenceOf(11)
  const records = []
  for (let bytes = 0; bytes < 990_000; bytes += JSON.stringify(records.at(-1)).length + 1) {
    records.push({ id: records.length, name: random.words(2), text: random.words(900) })
  }
  return same(request(TARGET, { body: JSON.stringify({ records }), type: JSON_TYPE }))()
}

/** The pages of the upstream: 512 kB of HTML, benign and with a leak at its end. */
export function pages() {
  const random = sequenceOf(77)
  let page = `<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>${random.words(4)}</title></head><body>\n`
  for (let place = 1; page.length < 523_000; place += 1) {
    page += `<section id="s${place}"><h2>${random.words(4)}</h2><p class="lead">${random.words(40)}.</p><ul><li><a href="/items/${place}?page=${place % 9}">${random.words(3)}</a></li><li>${random.words(6)}</li></ul></section>\n`
  }
  const end = '</body></html>\n'
  return { 'page.html': page + end, 'leak.html': `${page}<p>${SQL_ERROR}</p>${end}` }
}

const TARGET = '/api/users/123?include=orders&page=2&q=hello+world'
const ATTACK = `/api/users/123?id=${encodeURIComponent(SQL_INJECTION)}&q=${encodeURIComponent(SCRIPT)}&file=${encodeURIComponent('../../../../etc/passwd')}&cmd=${encodeURIComponent(';cat /etc/passwd')}`

/** Eight header fields and no more than a body adds. */
function request(target, { body, type, session = '8c1f6a2e90d74b35' } = {}) {
  const lines = [
    `${body === undefined ? 'GET' : 'POST'} ${target} HTTP/1.1`,
    'Host: shop.example.com',
    'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
    'Accept: application/json, text/html;q=0.9',
    'Accept-Language: en-GB,en;q=0.7',
    'Accept-Encoding: gzip, deflate, br',
    'Referer: https://shop.example.com/users',
    `Cookie: session=${session}; theme=dark`,
    'Cache-Control: max-age=0',
  ]
  if (body !== undefined) lines.push(`Content-Type: ${type}`, `Content-Length: ${Buffer.byteLength(body)}`)
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body ?? ''}`)
}

const JSON_TYPE = 'application/json'
const FORM_TYPE = 'application/x-www-form-urlencoded'

/** The same bytes each time. */
function same(bytes) {
  return () => () => bytes
}

/** New values each time: words with numbers, which no rule takes for anything. */
function fresh(make) {
  return () => {
    const random = sequenceOf((Date.now() % 2 ** 31) | 1)
    const value = (count) => Array.from({ length: count }, () => `${random.words(1)}${random.next(1e6)}`)
    return () => make(random, value)
  }
}

/**
 * `bar`: how many times cheaper than the peer the issue wants it. `heavy`: one connection, one after the other.
 * `requests()` makes a function that gives what is sent next. `twin`: the request that both sides must block (`leak`: only its answer
 * is bad). `page`: the answer comes from the upstream.
 */
export const ROWS = {
  get: { bar: 50, requests: same(request(TARGET)), twin: request(ATTACK) },
  'get-fresh': {
    bar: 30,
    requests: fresh((random, value) =>
      request(`/api/users/${random.next(1e9)}?include=${value(1)}&page=${random.next(1e6)}&q=${value(2).join('+')}`, {
        session: value(3).join(''),
      }),
    ),
  },
  json1k: {
    bar: 50,
    requests: same(request(TARGET, { body: small(sequenceOf(3)), type: JSON_TYPE })),
    twin: request(TARGET, { body: small(sequenceOf(3), SQL_INJECTION), type: JSON_TYPE }),
  },
  'json1k-fresh': {
    bar: 30,
    requests: fresh((random, value) => request(TARGET, { body: small(random, value(28).join(' ')), type: JSON_TYPE })),
  },
  form950: {
    bar: 50,
    heavy: true,
    requests: same(request(TARGET, { body: form(sequenceOf(5)), type: FORM_TYPE })),
    twin: request(TARGET, { body: form(sequenceOf(5), ` ${SQL_INJECTION}`), type: FORM_TYPE }),
  },
  'form950-fresh': {
    bar: 30,
    heavy: true,
    requests: fresh((random) => request(TARGET, { body: form(random), type: FORM_TYPE })),
  },
  json100k: {
    bar: 50,
    heavy: true,
    requests: same(request(TARGET, { body: big(sequenceOf(9)), type: JSON_TYPE })),
    twin: request(TARGET, { body: big(sequenceOf(9), ` ${SCRIPT}`), type: JSON_TYPE }),
  },
  'json100k-fresh': {
    bar: 30,
    heavy: true,
    requests: fresh((random) => request(TARGET, { body: big(random), type: JSON_TYPE })),
  },
  html512k: {
    bar: 20,
    heavy: true,
    page: true,
    requests: same(request('/page.html')),
    twin: request('/leak.html'),
    leak: true,
  },
  attack: { bar: 20, status: 403, requests: same(request(ATTACK)) },
}
