/** Starts test/support/openid-provider.mjs and speaks with it. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { freePorts } from './start-gateway.ts'

const SCRIPT = fileURLToPath(new URL('openid-provider.mjs', import.meta.url))

export interface OpenidProviderOptions {
  readonly redirectUris: readonly string[]
  readonly accessTokenSeconds?: number
  /** Where it listens; a free port when not given. */
  readonly port?: number
}

export interface ProviderControl {
  /** Every request is answered with `status`. */
  readonly down?: boolean
  readonly status?: number
  /** No request is answered. */
  readonly hang?: boolean
  /** Goes into ID tokens instead of the one that was asked for; empty: what was asked for. */
  readonly nonce?: string
  /** Claims of accounts by name, beside the usual ones. */
  readonly claims?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

export interface OpenidProvider {
  readonly issuer: string
  readonly port: number
  readonly clientId: string
  readonly clientSecret: string
  change(control: ProviderControl): Promise<void>
  /** How often each path was asked. */
  requests(): Promise<Readonly<Record<string, number>>>
  stop(): Promise<void>
}

export async function startOpenidProvider(options: OpenidProviderOptions): Promise<OpenidProvider> {
  const port = options.port ?? (await freePorts(1))[0]!
  const [clientId, clientSecret] = ['gateway', 'a-secret-of-the-gateway-only']
  const client = {
    client_id: clientId,
    client_secret: clientSecret,
    redirect_uris: options.redirectUris,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }
  const argument = JSON.stringify({ port, clients: [client], accessTokenSeconds: options.accessTokenSeconds })
  const child = spawn(process.execPath, [SCRIPT, argument], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve())
    child.once('close', () => reject(new Error(`the provider ended:\n${said}`)))
  })
  const issuer = `http://127.0.0.1:${port}`
  const ask = async (control: ProviderControl): Promise<{ requests: Record<string, number> }> => {
    const answer = await fetch(`${issuer}/test/control`, { method: 'POST', body: JSON.stringify(control) })
    return (await answer.json()) as { requests: Record<string, number> }
  }
  return {
    issuer,
    port,
    clientId,
    clientSecret,
    change: async (control) => void (await ask(control)),
    requests: async () => (await ask({})).requests,
    stop: async () => {
      child.kill('SIGKILL')
      await ended
    },
  }
}
