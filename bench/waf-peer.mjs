/** The peer of `bench:waf`: nginx with libmodsecurity in front of an nginx that answers, on configurations of ours. */
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { track } from '../demo/processes.mjs'

const MODULES = '/usr/lib/nginx/modules'

/** The engine configuration around CRS: what Sallyport's own set-up says, in words of ModSecurity. */
const ENGINE = `
SecRuleEngine On
SecAuditEngine Off
SecRequestBodyAccess On
SecResponseBodyAccess On
SecRequestBodyLimit 13107200
SecRequestBodyNoFilesLimit 1048576
SecRequestBodyLimitAction Reject
SecRequestBodyJsonDepthLimit 512
SecArgumentsLimit 1000
SecResponseBodyLimit 1048576
SecResponseBodyLimitAction ProcessPartial
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecPcreMatchLimit 100000
SecPcreMatchLimitRecursion 100000
SecArgumentSeparator &
SecCookieFormat 0
SecTmpDir /tmp/
SecDataDir /tmp/
SecRule REQUEST_HEADERS:Content-Type "@rx ^(?:application(?:/soap\\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "@rx ^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,msg:'unreadable body'"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:400,msg:'multipart body not strict'"
SecRule &ARGS "@ge 1000" "id:200007,phase:2,t:none,log,deny,status:400,msg:'too many arguments'"
`

/** What each folder holds that nginx writes below its prefix. */
function configuration(name, folder, { errorLevel = 'crit', modules = '', http }) {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => ` ${kind}_temp_path ${folder}/${name}-${kind};`)
    .join('\n')
  return `${modules}
user root;
worker_processes 1; daemon off; pid ${folder}/${name}.pid; error_log ${folder}/${name}.log ${errorLevel};
events { worker_connections 1024; }
http {
 access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; client_max_body_size 20m;
 client_body_buffer_size 2m; proxy_buffers 8 128k; proxy_buffer_size 16k; proxy_busy_buffers_size 256k;
${temporary}
${http}
}
`
}

/** Starts one nginx and waits until it listens. */
async function start(name, folder, port, options) {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${name}.conf`)
  writeFileSync(file, configuration(name, folder, options))
  const child = track(spawn('nginx', ['-p', folder, '-c', file], { stdio: ['ignore', 'ignore', 'inherit'] }))
  for (let attempt = 0; attempt < 400; attempt += 1) {
    if (child.exitCode !== null)
      throw new Error(`nginx (${name}) ended: ${readFileSync(join(folder, `${name}.log`), 'utf8')}`)
    if (await listens(port)) return { name, port, pid: child.pid, log: join(folder, `${name}.log`) }
    await sleep(50)
  }
  throw new Error(`nginx (${name}) does not listen`)
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

/** The upstream of both sides: pages from files, all else the same small JSON that the gateway answers by itself. */
export function startBackend(folder, port, answer) {
  return start('backend', folder, port, {
    http: ` server { listen 127.0.0.1:${port} backlog=1024; default_type application/json;
  location ~ ^/(page|leak)\\.html$ { default_type text/html; root ${folder}; }
  location / { return 200 '${answer}'; } }`,
  })
}

/** nginx as a proxy, with ModSecurity and the rules of \`rules\`, or (rules undefined) without. \`logs\`: matches go to its error log. */
export function startPeer(name, folder, port, backendPort, { rules, logs = false }) {
  if (rules !== undefined) {
    const includes = [ENGINE, `Include ${rules.setup}`, ...rules.files.map((file) => `Include ${file}`)].join('\n')
    writeFileSync(join(folder, 'modsecurity.conf'), `${includes}\n`)
  }
  return start(name, folder, port, {
    errorLevel: logs ? 'info' : 'crit',
    modules:
      rules === undefined
        ? ''
        : `load_module ${MODULES}/ndk_http_module.so;\nload_module ${MODULES}/ngx_http_modsecurity_module.so;`,
    http: `${rules === undefined ? '' : ` modsecurity on; modsecurity_rules_file ${folder}/modsecurity.conf;`}
 upstream backend { server 127.0.0.1:${backendPort}; keepalive 64; keepalive_requests 100000000; }
 server { listen 127.0.0.1:${port} backlog=1024;
  location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_pass http://backend; } }`,
  })
}

/** Rule ids in an error log from \`from\` on (characters), sorted. */
export function loggedIds(file, from) {
  const text = readFileSync(file, 'utf8').slice(from)
  return [...new Set([...text.matchAll(/\[id "(\d+)"\]/g)].map((match) => Number(match[1])))].sort((a, b) => a - b)
}
