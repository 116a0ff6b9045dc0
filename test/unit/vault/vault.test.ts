/** Vaults and secrets: the commands, the file, and what policies see. Source: kubernetes-objects.md §8, §9; O-39. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCommandLine } from '../../../src/cli/command-line.ts'
import { SecretStore } from '../../../src/vault/secret-store.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-vault-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

async function api(...words: string[]): Promise<{ code: number; json: Record<string, any>; err: string }> {
  let out = ''
  let err = ''
  const code = await runCommandLine(['api', ...words, '--state-dir', folder], {
    environment: {},
    out: (text) => (out += text),
    err: (text) => (err += text),
    isTerminal: false,
  })
  return { code, json: out === '' ? {} : JSON.parse(out), err }
}

const store = (keys: readonly string[] = [], directory?: string): SecretStore =>
  new SecretStore({ stateDir: folder, keys, directory })

describe('sallyport api', () => {
  it('makes, lists, changes and deletes vaults and secrets with the fields of the API', async () => {
    const vault = (await api('vaults', 'create', '--name', 'app', '--description', 'for the app')).json
    expect(vault).toMatchObject({ name: 'app', description: 'for the app', metadata: '' })
    expect(vault['id']).toMatch(/^vault_/)
    const made = await api('secrets', 'create', '--name', 'db/password', '--value', 's3cret', '--vault-id', vault['id'])
    expect(made.json).toMatchObject({ name: 'db/password', vault: { id: vault['id'], name: 'app' } })
    expect(store().get('app', 'db/password')).toBe('s3cret')

    writeFileSync(join(folder, 'value'), 'line one\nline two\n')
    const id = made.json['id'] as string
    await api('secrets', 'update', id, '--value-file', join(folder, 'value'), '--description', 'new')
    expect(store().get('app', 'db/password')).toBe('line one\nline two\n')
    expect((await api('secrets', 'get', id)).json).toMatchObject({ id, description: 'new' })
    expect((await api('secrets', 'list')).json['secrets']).toHaveLength(1)

    expect((await api('vaults', 'delete', vault['id'])).err).toContain('ERR_NGROK_23003')
    expect((await api('secrets', 'delete', id)).code).toBe(0)
    expect((await api('vaults', 'delete', vault['id'])).code).toBe(0)
    expect((await api('vaults', 'list')).json).toEqual({ vaults: [] })
    expect(store().get('app', 'db/password')).toBeUndefined()
  })

  it('O-39: no value is ever printed, nor lies readable in the state folder', async () => {
    await api('vaults', 'create', '--name', 'app')
    const printed = [
      await api('secrets', 'create', '--name', 'a', '--value', 'geheim-123', '--vault-name', 'app'),
      await api('secrets', 'list'),
    ]
    expect(JSON.stringify(printed)).not.toContain('geheim-123')
    const file = readFileSync(join(folder, 'vaults.json'), 'utf8')
    expect(file).not.toContain('geheim-123')
    expect(file).not.toContain(Buffer.from('geheim-123').toString('base64').slice(0, 12))
    for (const name of ['vaults.json', 'vault.keys']) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600)
  })

  it.each([
    [['vaults', 'create'], 'ERR_NGROK_23001'],
    [['vaults', 'create', '--name', 'a b'], 'ERR_NGROK_23000'],
    [['vaults', 'create', '--name', 'x'.repeat(256)], 'ERR_NGROK_23002'],
    [['vaults', 'create', '--name', 'there'], 'ERR_NGROK_23004'],
    [['secrets', 'create', '--value', 'v', '--vault-name', 'there'], 'ERR_NGROK_24001'],
    [['secrets', 'create', '--name', 'ä', '--value', 'v', '--vault-name', 'there'], 'ERR_NGROK_24000'],
    [['secrets', 'create', '--name', 'n', '--value', '', '--vault-name', 'there'], 'ERR_NGROK_24003'],
    [['secrets', 'create', '--name', 'n', '--value', 'x'.repeat(65_537), '--vault-name', 'there'], 'ERR_NGROK_24004'],
    [['secrets', 'create', '--name', 'taken', '--value', 'v', '--vault-name', 'there'], 'ERR_NGROK_24005'],
    [['secrets', 'create', '--name', 'n', '--value', 'v', '--vault-name', 'nowhere'], 'ERR_NGROK_24009'],
    [['secrets', 'get', 'secret_none'], 'ERR_NGROK_24008'],
  ])('%j is refused with %s', async (words, code) => {
    await api('vaults', 'create', '--name', 'there')
    await api('secrets', 'create', '--name', 'taken', '--value', 'v', '--vault-name', 'there')
    const refused = await api(...words)
    expect(refused.err).toContain(code)
    expect(refused.code).toBe(1)
  })

  it('says what is missing or unknown', async () => {
    expect((await api('secrets', 'create', '--name', 'n', '--value', 'v')).err).toContain('--vault-id or --vault-name')
    expect((await api('domains', 'list')).err).toContain('vaults and secrets')
    expect((await api('vaults', 'rename')).code).toBe(2)
    expect((await api('vaults', 'create', '--name', 'n', '--value', 'v')).err).toContain('a vault has no --value')
  })

  it('two commands at once lose nothing', async () => {
    await api('vaults', 'create', '--name', 'app')
    await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        api('secrets', 'create', '--name', `n${at}`, '--value', `v${at}`, '--vault-name', 'app'),
      ),
    )
    expect((await api('secrets', 'list')).json['secrets']).toHaveLength(20)
  })
})

describe('secrets of policies', () => {
  const OLD = 'an-old-key-of-more-than-32-characters'
  const NEW = 'a-new-key-of-more-than-32-characters!'

  it('a running store sees a change within a second, without a reload', async () => {
    const running = store()
    expect(running.get('app', 'n')).toBeUndefined()
    await api('vaults', 'create', '--name', 'app')
    await api('secrets', 'create', '--name', 'n', '--value', 'first', '--vault-name', 'app')
    await expect.poll(() => running.get('app', 'n'), { timeout: 5000 }).toBe('first')
  })

  it('keys roll over: the newest seals, all open', async () => {
    const config = (keys: string[]): string => {
      const path = join(folder, 'gateway.yaml')
      writeFileSync(path, `vaults: {keys: ${JSON.stringify(keys)}}\n`)
      return path
    }
    await api('vaults', 'create', '--name', 'app', '-c', config([OLD]))
    await api('secrets', 'create', '--name', 'n', '--value', 'old', '--vault-name', 'app', '-c', config([OLD]))
    await api('secrets', 'create', '--name', 'm', '--value', 'new', '--vault-name', 'app', '-c', config([NEW, OLD]))
    expect(store([NEW, OLD]).get('app', 'n')).toBe('old')
    expect(store([NEW]).get('app', 'm')).toBe('new')
    expect(store([NEW]).get('app', 'n')).toBeUndefined()
    expect(store([OLD]).get('app', 'm')).toBeUndefined()
  })

  it('a damaged file hides nothing that was known', async () => {
    await api('vaults', 'create', '--name', 'app')
    await api('secrets', 'create', '--name', 'n', '--value', 'v', '--vault-name', 'app')
    const running = store()
    expect(running.get('app', 'n')).toBe('v')
    writeFileSync(join(folder, 'vaults.json'), '{"version": 1, ')
    expect(running.get('app', 'n')).toBe('v')
    expect((await api('vaults', 'list')).err).toContain('VAULTS_DAMAGED')
  })

  it('folders of files, as Kubernetes mounts secrets, are asked as well, and nothing outside of them', () => {
    const directory = join(folder, 'mounted')
    mkdirSync(join(directory, 'app'), { recursive: true })
    writeFileSync(join(directory, 'app', 'token'), 'from a file\n')
    writeFileSync(join(folder, 'outside'), 'x')
    const running = store([], directory)
    expect(running.get('app', 'token')).toBe('from a file')
    expect(running.get('..', 'outside')).toBeUndefined()
    expect(running.get('app', '../../outside')).toBeUndefined()
    expect(running.get('app', 'none')).toBeUndefined()
  })
})
