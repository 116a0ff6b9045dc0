/** What `upstream.tls` promises, on both engines: authorities, another name, verification switched off (H-56). */
import { createServer, type TLSSocket } from 'node:tls'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Engine, UpstreamTls } from '../../../src/listener/front-end.ts'
import { makeCertificate, type MadeCertificate, opensslSkipReason } from '../../support/certificates.ts'
import { exchangeRaw } from '../../support/raw-client.ts'
import { wirePool } from '../../support/wire-gateway.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

const GET = 'GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n'
wirePool.name = 'native'

describe.skipIf(opensslSkipReason !== undefined).each<Engine>(['native', 'uws'])(
  'H-56 upstreams over TLS, %s',
  (engine) => {
    let gateway: WireGateway<PlainEvents>
    let shown: MadeCertificate
    let stranger: MadeCertificate
    let port = 0
    const names: (string | false)[] = []
    const server = (): ReturnType<typeof createServer> =>
      createServer({ key: shown.key, cert: shown.certificate }, (socket: TLSSocket) => {
        names.push((socket as TLSSocket & { servername: string | false }).servername)
        socket.on('error', () => undefined)
        socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi'))
      })
    let listening: ReturnType<typeof createServer>

    beforeAll(async () => {
      shown = makeCertificate({ names: 'DNS:inside.test' })
      stranger = makeCertificate({ names: 'DNS:inside.test' })
      listening = server().listen(0, '127.0.0.1')
      await once(listening, 'listening')
      port = (listening.address() as AddressInfo).port
      gateway = await startWireGateway(new PlainEvents(), target(port), { engine })
    })
    afterAll(async () => {
      expect(gateway.errors).toEqual([])
      await gateway.close()
      listening.close()
    })

    const ask = async (tls: UpstreamTls, host = '127.0.0.1'): Promise<number> => {
      gateway.events.failures.length = names.length = 0
      gateway.events.target = target(port, { protocol: 'https', host, addresses: ['127.0.0.1'], tls })
      return (await exchangeRaw(gateway.port, GET)).answers[0]!.status
    }

    test('a server is verified by its host against the authorities that are named', async () => {
      expect(await ask({ verify: true, ca: shown.certificate }, 'inside.test')).toBe(200)
      expect(names).toEqual(['inside.test'])
      expect(await ask({ verify: true, ca: stranger.certificate }, 'inside.test')).toBe(502)
      expect(gateway.events.failures).toMatchObject([{ reason: 'tls_failed', notProcessed: true }])
      expect(await ask({ verify: true }, 'inside.test')).toBe(502)
      expect(await ask({ verify: true, ca: shown.certificate }, 'outside.test')).toBe(502)
      expect(gateway.events.failures).toMatchObject([{ reason: 'tls_failed' }])
    })

    test('server_name is sent and verified instead of the host', async () => {
      expect(await ask({ verify: true, ca: shown.certificate, serverName: 'inside.test' })).toBe(200)
      expect(names).toEqual(['inside.test'])
      expect(await ask({ verify: true, ca: shown.certificate, serverName: 'other.test' }, 'inside.test')).toBe(502)
    })

    test('without verification any certificate will do', async () => {
      expect(await ask({ verify: false })).toBe(200)
      expect(await ask({ verify: false, serverName: 'other.test' })).toBe(200)
      expect(names).toEqual(['other.test'])
    })
  },
)
