/**
 * The story the demo tells: each line sends real requests, prints them with their answers, and asserts what the answer
 * says (status, headers, reason code) and what the log says (reason, rule ids).
 */
import { closeConnections, recordOf, send } from './client.mjs'

const CAPACITY = 1000
const ROUTES = [
  ['/api/users/1', 'users'],
  ['/api/orders/7', 'orders'],
  ['/api/notifications', 'notifications'],
]

/**
 * `stage`: { port, logFile, token(options), stopService(name), startService(name), inspectBodies() }.
 * Answers the number of lines that failed.
 */
export async function tell(stage, say) {
  let failures = 0

  /** One line of the story: what is expected is compared, and the line says so. */
  async function line(title, answer, expected, detail = '') {
    const problems = []
    const expect = (what, found, wanted) => {
      const fits = wanted instanceof RegExp ? wanted.test(String(found)) : found === wanted
      if (!fits) problems.push(`${what} is ${JSON.stringify(found)}, not ${wanted}`)
    }
    expect('status', answer.status, expected.status)
    for (const [name, wanted] of Object.entries(expected.headers ?? {})) expect(name, answer.headers[name], wanted)
    if (expected.body !== undefined) expect('body', answer.body, expected.body)
    if (expected.bodyLacks !== undefined && answer.body.includes(expected.bodyLacks)) {
      problems.push(`the body holds ${JSON.stringify(expected.bodyLacks)}`)
    }
    let rules = ''
    if (expected.reason !== undefined || expected.rule !== undefined) {
      const record = await recordOf(stage.logFile, answer.headers['x-request-id'])
      if (expected.reason !== undefined) expect('reason', record.reason, expected.reason)
      if (expected.rule !== undefined) {
        const found = record.waf_rules ?? []
        if (!found.some((id) => expected.rule.test(String(id))))
          problems.push(`no rule ${expected.rule} among ${found.join(' ')}`)
        rules = `rules ${found.join(' ')}`
      }
    }
    const code = answer.headers['ngrok-error-code'] ?? answer.headers['sallyport-error-code'] ?? ''
    const mark = problems.length === 0 ? 'ok  ' : 'FAIL'
    say(
      `${mark} ${title.padEnd(46)} → ${answer.status} ${[code, rules, detail].filter((part) => part !== '').join('  ')}`.trimEnd(),
    )
    for (const problem of problems) say(`       ${problem}`)
    failures += problems.length === 0 ? 0 : 1
  }

  const ann = await stage.token({ sub: 'ann' })
  const go = (path, options = {}) => send(stage.port, path, { token: ann, ...options })

  say('\nWho may pass')
  for (const [path, service] of ROUTES) {
    const expected = {
      status: 200,
      body: new RegExp(`"service":"${service}"`),
      reason: 'ok',
      headers: { 'x-service-version': 'v1.0', 'x-processed-at': /^\d{4}-\d\d-\d\dT.*Z$/, 'x-client-ip': '127.0.0.1' },
    }
    await line(`GET ${path}, valid token`, await go(path), expected, `from ${service}`)
  }
  const ecdsa = await stage.token({ sub: 'ann', alg: 'ES256' })
  await line('GET /api/users/1, valid ES256 token', await go('/api/users/1', { token: ecdsa }), {
    status: 200,
    reason: 'ok',
  })
  await line('GET /api/users/1, no token', await go('/api/users/1', { token: undefined }), {
    status: 401,
    headers: { 'ngrok-error-code': 'ERR_NGROK_3401', 'www-authenticate': /^Bearer/ },
    reason: /^auth:/,
  })
  const stranger = await stage.token({ sub: 'ann', iss: 'https://elsewhere.example' })
  await line('GET /api/users/1, token of another issuer', await go('/api/users/1', { token: stranger }), {
    status: 403,
    headers: { 'ngrok-error-code': 'ERR_NGROK_3403' },
    reason: /^auth:/,
  })
  await line('GET /api/users/1, tampered token', await go('/api/users/1', { token: tamper(ann) }), {
    status: 401,
    headers: { 'ngrok-error-code': 'ERR_NGROK_3401' },
    reason: /^auth:/,
  })

  say('\nWhat the Core Rule Set stops')
  await line(
    "GET /api/users/1?id=1' OR '1'='1' --",
    await go(`/api/users/1?id=${encodeURIComponent("1' OR '1'='1' -- ")}`),
    {
      status: 403,
      headers: { 'ngrok-error-code': 'ERR_NGROK_3700' },
      reason: /^waf:/,
      rule: /^942/,
    },
  )

  say('\nWhere requests go')
  await line('GET /api/unknown, valid token', await go('/api/unknown'), {
    status: 404,
    headers: { 'ngrok-error-code': 'ERR_NGROK_6029' },
    reason: 'no_route',
  })
  await stage.stopService('orders')
  await line('GET /api/orders/7, the service is stopped', await go('/api/orders/7'), {
    status: /^50[23]$/,
    headers: { 'sallyport-error-code': /^ERR_GW_/ },
    reason: /^(?:connect_failed|no_healthy_target|upstream_reset)$/,
  })
  await line('GET /api/users/1, others go on', await go('/api/users/1'), { status: 200, reason: 'ok' })
  await stage.startService('orders')
  await line('GET /api/orders/7, the service is back', await go('/api/orders/7'), { status: 200, reason: 'ok' })

  say('\nHow much one subject may ask')
  const bob = await stage.token({ sub: 'bob' })
  const { passed, limited, last, others } = await useUp(stage.port, bob)
  const note = `${passed} passed, ${limited} refused over both workers${others === '' ? '' : `, ${others}`}`
  await line(
    `${CAPACITY + 50} × GET /api/users/1 as bob`,
    last,
    {
      status: 429,
      headers: { 'retry-after': /^[1-9]\d*$/ },
      reason: /^rate_limited:/,
    },
    note,
  )
  if (passed !== CAPACITY) {
    say(`       exactly ${CAPACITY} should have passed`)
    failures += 1
  }
  await line('GET /api/users/1 as ann', await go('/api/users/1'), { status: 200, reason: 'ok' })

  say('\nThe same policy with process_body: true, swapped in while it serves')
  await stage.inspectBodies()
  await line(
    'POST /api/users, <script> in a form',
    await go('/api/users', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: `comment=${encodeURIComponent('<script>alert(document.cookie)</script>')}`,
    }),
    {
      status: 403,
      headers: { 'ngrok-error-code': 'ERR_NGROK_3700' },
      reason: /^waf:/,
      rule: /^941/,
    },
  )
  await line('GET /api/users/broken-report, leaks an SQL error', await go('/api/users/broken-report'), {
    status: 403,
    headers: { 'ngrok-error-code': 'ERR_NGROK_3702' },
    reason: /^waf:/,
    rule: /^951/,
    bodyLacks: 'secret-of-users',
  })
  await line(
    'POST /api/users, an honest form',
    await go('/api/users', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: 'name=Ann&town=Ghent',
    }),
    { status: 200, reason: 'ok' },
  )
  closeConnections()
  return failures
}

/** Changes one character in the middle of the signature: the last one may hold unused bits only. */
function tamper(token) {
  const at = token.lastIndexOf('.') + 20
  return token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1)
}

/** Sends more requests than the limit admits, sixteen at a time. */
async function useUp(port, token) {
  let left = CAPACITY + 50
  let passed = 0
  let limited = 0
  let last
  const unexpected = new Map()
  const lane = async () => {
    while (left > 0) {
      left -= 1
      const answer = await send(port, '/api/users/1', { token })
      if (answer.status === 200) passed += 1
      else if (answer.status === 429) limited += 1
      else unexpected.set(answer.status, (unexpected.get(answer.status) ?? 0) + 1)
      if (answer.status === 429 || last === undefined) last = answer
    }
  }
  await Promise.all(Array.from({ length: 16 }, lane))
  return { passed, limited, last, others: [...unexpected].map(([status, count]) => `${count} × ${status}`).join(' ') }
}
