import { request } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { AdminError, isLoopback, startAdmin, type AdminServer, type AdminSubject } from '../../../src/admin/server.ts'

let server: AdminServer | undefined
afterEach(() => server?.close())

class Subject implements AdminSubject {
  reasons: string[] = []
  hasBeenReady = true
  reloads = 0
  isGood = true
  notReadyReasons(): readonly string[] {
    return this.reasons
  }
  status(): unknown {
    return { state: 'running' }
  }
  exposition(format: string): Promise<string> {
    return format === 'prometheus' ? Promise.resolve('up 1\n') : Promise.resolve('up 1\n# EOF\n')
  }
  reload(): Promise<{ ok: boolean; message: string }> {
    this.reloads += 1
    return Promise.resolve({ ok: this.isGood, message: 'm' })
  }
  readonly drained = new Set<string>()
  endpoints(): readonly unknown[] {
    return [{ id: 'ep_1', name: 'shop' }]
  }
  targets(endpoint: string): Promise<readonly unknown[] | undefined> {
    return Promise.resolve(endpoint === 'ns/shop' ? [{ target: '10.0.0.1:80' }] : undefined)
  }
  targetsVersion(endpoint: string): string | undefined {
    return endpoint === 'ns/shop' ? `v${this.drained.size}` : undefined
  }
  drain(name: string, isDrained: boolean): { ok: boolean; message: string } {
    if (isDrained) this.drained.add(name)
    else this.drained.delete(name)
    return { ok: !name.endsWith('unknown'), message: name }
  }
}

async function start(token?: string): Promise<{ subject: Subject; ask: typeof ask }> {
  const subject = new Subject()
  const started = await startAdmin({ address: { host: '127.0.0.1', port: 0 }, token, subject })
  server = started
  const ask = (
    path: string,
    headers: Record<string, string> = {},
    method = 'GET',
  ): Promise<{ status: number; headers: Record<string, unknown>; body: string }> =>
    new Promise((resolve, reject) => {
      const outgoing = request({ host: '127.0.0.1', port: started.port, path, method, headers }, (incoming) => {
        let body = ''
        incoming.on('data', (data: Buffer) => (body += data.toString()))
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body }))
      })
      outgoing.once('error', reject)
      outgoing.end()
    })
  return { subject, ask }
}

describe('O-36: health', () => {
  test('livez, readyz, healthz, startupz', async () => {
    const { subject, ask } = await start()
    expect((await ask('/livez')).status).toBe(200)
    for (const path of ['/readyz', '/healthz']) {
      expect(await ask(path)).toMatchObject({ status: 200, body: '{"status":"ready","reasons":[]}\n' })
    }
    subject.reasons = ['worker 2 is down']
    subject.hasBeenReady = false
    const notReady = await ask('/readyz')
    expect(notReady.status).toBe(503)
    expect(JSON.parse(notReady.body)).toEqual({ status: 'not ready', reasons: ['worker 2 is down'] })
    expect((await ask('/startupz')).status).toBe(503)
    expect((await ask('/livez')).status).toBe(200)
  })

  test('metrics by content negotiation, status, HEAD, unknown paths, wrong methods', async () => {
    const { ask } = await start()
    expect(await ask('/metrics')).toMatchObject({
      headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
      body: 'up 1\n',
    })
    expect(await ask('/metrics', { accept: 'application/openmetrics-text;version=1.0.0' })).toMatchObject({
      headers: { 'content-type': 'application/openmetrics-text; version=1.0.0; charset=utf-8' },
      body: 'up 1\n# EOF\n',
    })
    expect(JSON.parse((await ask('/api/status')).body)).toEqual({ state: 'running' })
    expect(await ask('/livez', {}, 'HEAD')).toMatchObject({ status: 200, body: '' })
    const missing = await ask('/nothing?x=1')
    expect(missing.headers['content-type']).toContain('application/problem+json')
    expect(JSON.parse(missing.body)).toMatchObject({ status: 404, title: 'Not Found' })
    expect(await ask('/metrics', {}, 'POST')).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } })
    expect(await ask('/api/reload')).toMatchObject({ status: 405, headers: { allow: 'POST' } })
  })
})

describe('O-37, T-77: who may ask', () => {
  test.each([
    ['127.0.0.1:4040', 200],
    ['localhost', 200],
    ['LOCALHOST:1', 200],
    ['[::1]:4040', 200],
    ['evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['localhost.evil.example:4040', 403],
    ['10.0.0.1', 403],
  ])('Host: %s → %i', async (host, status) => {
    const { ask } = await start()
    expect((await ask('/metrics', { host })).status).toBe(status)
    expect((await ask('/readyz', { host })).status).toBe(status)
  })

  test('writes from another origin are refused', async () => {
    const { subject, ask } = await start()
    expect((await ask('/api/reload', { origin: 'http://evil.example' }, 'POST')).status).toBe(403)
    expect((await ask('/api/reload', { 'sec-fetch-site': 'cross-site' }, 'POST')).status).toBe(403)
    expect((await ask('/api/reload', { origin: 'null' }, 'POST')).status).toBe(403)
    expect(subject.reloads).toBe(0)
    expect((await ask('/api/reload', { host: 'localhost', origin: 'http://localhost' }, 'POST')).status).toBe(200)
    expect((await ask('/api/reload', {}, 'POST')).status).toBe(200)
    subject.isGood = false
    expect((await ask('/api/reload', {}, 'POST')).status).toBe(409)
    expect(subject.reloads).toBe(3)
  })

  test('with a token everything but health asks for it', async () => {
    const { ask } = await start('right')
    for (const path of ['/livez', '/readyz', '/healthz', '/startupz']) expect((await ask(path)).status).toBe(200)
    for (const headers of [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: 'Basic right' },
      { authorization: 'right' },
    ]) {
      expect(await ask('/metrics', headers as Record<string, string>)).toMatchObject({
        status: 401,
        headers: { 'www-authenticate': 'Bearer realm="sallyport admin"' },
      })
    }
    expect((await ask('/metrics', { authorization: 'bearer right', host: 'gateway.internal' })).status).toBe(200)
    expect((await ask('/api/reload', {}, 'POST')).status).toBe(401)
  })

  test('an address that others reach needs a token; a taken port is named', async () => {
    const subject = new Subject()
    await expect(startAdmin({ address: { host: '0.0.0.0', port: 0 }, subject })).rejects.toThrow(AdminError)
    server = await startAdmin({ address: { host: '0.0.0.0', port: 0 }, token: 'x', subject })
    const { port } = server
    await expect(startAdmin({ address: { host: '127.0.0.1', port }, subject })).rejects.toThrow(
      `port ${port} is in use`,
    )
    expect(['127.0.0.1', '127.8.8.8', '::1', 'localhost'].every(isLoopback)).toBe(true)
    expect(['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example', 'localhost.example'].some(isLoopback)).toBe(false)
  })
})

describe('O-38: targets', () => {
  test('are listed, drained and put back, by name or id', async () => {
    const { subject, ask } = await start()
    expect(JSON.parse((await ask('/api/endpoints')).body)).toEqual([{ id: 'ep_1', name: 'shop' }])
    const listed = await ask('/api/endpoints/ns%2Fshop/targets')
    expect([listed.status, listed.headers['etag'], JSON.parse(listed.body)]).toEqual([
      200,
      '"v0"',
      [{ target: '10.0.0.1:80' }],
    ])
    const drained = await ask('/api/endpoints/ns%2Fshop/targets/10.0.0.1%3A80/drain', {}, 'POST')
    expect([drained.status, drained.headers['etag']]).toEqual([200, '"v1"'])
    expect([...subject.drained]).toEqual(['ns/shop/10.0.0.1:80'])
    expect((await ask('/api/endpoints/ns%2Fshop/targets/10.0.0.1:80/undrain', {}, 'POST')).status).toBe(200)
    expect((await ask('/api/endpoints/ns%2Fshop/drain', {}, 'POST')).status).toBe(200)
    expect([...subject.drained]).toEqual(['ns/shop'])
  })

  test('unknown ones are 404, reading methods do not drain, a stale If-Match is 412, other origins are 403', async () => {
    const { subject, ask } = await start()
    expect((await ask('/api/endpoints/other/targets')).status).toBe(404)
    expect((await ask('/api/endpoints/%zz/targets')).status).toBe(404)
    expect((await ask('/api/endpoints/ns%2Fshop/targets/unknown/drain', {}, 'POST')).status).toBe(404)
    subject.drained.clear()
    expect((await ask('/api/endpoints/ns%2Fshop/drain')).status).toBe(405)
    expect((await ask('/api/endpoints/ns%2Fshop/drain', { 'if-match': '"v7"' }, 'POST')).status).toBe(412)
    expect((await ask('/api/endpoints/ns%2Fshop/drain', { origin: 'http://evil.test' }, 'POST')).status).toBe(403)
    expect(subject.drained.size).toBe(0)
    expect((await ask('/api/endpoints/ns%2Fshop/drain', { 'if-match': '"v0"' }, 'POST')).status).toBe(200)
  })
})
