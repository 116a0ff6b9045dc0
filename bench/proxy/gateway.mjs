/** Our side of `npm run bench:proxy`: a gateway with its default validation, forwarding fields, Via and request id. */
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, track } from '../../demo/processes.mjs'
import { root } from '../../scripts/set-up.mjs'

/** `row`: workers, policy, buckets, accessLog, tls. `services`: backendPort, keySet, issuer, redisPort, certificate. */
export async function startGateway(name, parent, row, services) {
  const folder = join(parent, name)
  mkdirSync(folder, { recursive: true })
  const port = await freePort()
  const adminPort = await freePort()
  const file = join(folder, 'gateway.yaml')
  writeFileSync(file, configuration(folder, port, adminPort, row, services))
  const child = track(spawn(process.execPath, [join(root, 'dist', 'main.js'), 'run', '-c', file], { stdio: 'inherit' }))
  for (let attempt = 0; attempt < 1200; attempt += 1) {
    const ready = await fetch(`http://127.0.0.1:${adminPort}/readyz`).then(
      (answer) => answer.status === 200,
      () => false,
    )
    if (ready) return { name, port, child, pid: child.pid }
    if (child.exitCode !== null) throw new Error(`the gateway (${name}) ended`)
    await sleep(50)
  }
  throw new Error(`the gateway (${name}) is not ready`)
}

function configuration(folder, port, adminPort, row, { backendPort, keySet, issuer, redisPort, certificate }) {
  const lines = [
    row.tls
      ? `listeners: [{ address: 127.0.0.1:${port}, tls: { certificates: [{ certificate: ${certificate.certificate}, key: ${certificate.key} }] } }]`
      : `listeners: [{ address: 127.0.0.1:${port} }]`,
    `workers: ${row.workers}`,
    `state_dir: ${join(folder, 'state')}`,
    `engine: ${row.engine}`,
    `access_log: { output: ${row.accessLog ? join(folder, 'access.log') : 'off'} }`,
    'log_level: error',
    `admin: { address: 127.0.0.1:${adminPort} }`,
    'upstream: { max_connections: 1024, keep_alive: 1h }',
    `waf: { rules: ${join(root, '.state', 'crs', 'current')} }`,
    ...(row.buckets === 'memory' ? [] : [`redis: { url: redis://127.0.0.1:${redisPort} }`]),
    ...(row.buckets === 'lease' ? ['rate_limit: { mode: lease }'] : []),
    'endpoints:',
    `  - name: front`,
    `    url: ${row.tls ? 'https' : 'http'}://localhost:${port}`,
  ]
  if (row.policy === 'none') lines.push(`    upstream: { url: http://127.0.0.1:${backendPort} }`)
  else lines.push(...microservices(row.policy === 'full-crs', keySet, issuer, backendPort))
  return `${lines.join('\n')}\n`
}

/** The policy of the microservices guide: rule set, token, limit per subject, route by path, headers on the answer. */
function microservices(hasRules, keySet, issuer, backendPort) {
  const services = ['users', 'orders', 'notifications']
  const action = (type, config) => `        - actions: [{ type: ${type}, config: ${JSON.stringify(config)} }]`
  return [
    '    traffic_policy:',
    '      on_http_request:',
    ...(hasRules ? [action('owasp-crs-request', { on_error: 'halt' })] : []),
    action('jwt-validation', {
      issuer: { allow_list: [{ value: issuer }] },
      http: { tokens: [{ type: 'access_token', method: 'header', name: 'Authorization', prefix: 'Bearer ' }] },
      jws: { allowed_algorithms: ['RS256', 'ES256'], keys: { sources: { additional_jkus: [keySet] } } },
    }),
    action('rate-limit', {
      name: 'per subject',
      algorithm: 'sliding_window',
      capacity: 2_000_000_000,
      rate: '1h',
      bucket_key: ['actions.ngrok.jwt_validation.tokens[0].payload.sub'],
    }),
    ...services.map(
      (service) =>
        `        - expressions: ["req.url.path.startsWith('/api/${service}')"]\n          actions: [{ type: forward-internal, config: { url: "https://${service}.internal" } }]`,
    ),
    '      on_http_response:',
    ...(hasRules ? [action('owasp-crs-response', { on_error: 'halt' })] : []),
    action('add-headers', {
      headers: {
        'x-service-version': 'v1.0',
        'x-processed-at': '${time.now}',
        'x-client-ip': '${conn.client_ip}',
      },
    }),
    ...services.flatMap((service) => [
      `  - name: ${service}`,
      `    url: https://${service}.internal`,
      `    upstream: { url: http://127.0.0.1:${backendPort} }`,
    ]),
  ]
}
