/**
 * `sallyport api vaults|secrets …`: ngrok's commands for objects that policies refer to, on this machine's state folder.
 * Answers are JSON, with the field names of ngrok's API.
 *
 * Source: kubernetes-objects.md §8 (form of the commands), §9; operations.md O-07, O-39.
 */
import { readFileSync } from 'node:fs'
import { vaultKeys } from '../vault/secret-store.ts'
import { VaultError, VaultFile, vaultPath, type ObjectFields, type Secret, type Vault } from '../vault/vault-file.ts'
import { UsageError, type Arguments, type Flags } from './arguments.ts'
import { settingsOf } from './configuration.ts'
import { CONFIG_FLAG, EXIT, STATE_DIR_FLAG, type Verb } from './verb.ts'

const VERBS = ['create', 'list', 'get', 'update', 'delete']

const FIELD_FLAGS = {
  name: { type: 'text', value: 'NAME', meaning: 'Name of the vault or secret.', only: 'command-line' },
  description: { type: 'text', value: 'TEXT', meaning: 'What it is for.', only: 'command-line' },
  metadata: { type: 'text', value: 'TEXT', meaning: 'Anything else, kept as it is.', only: 'command-line' },
  id: { type: 'text', value: 'ID', meaning: 'Instead of the operand ID.', only: 'command-line' },
  value: {
    type: 'text',
    value: 'TEXT',
    meaning: 'Value of a secret. It stands in the history of the shell: --value-file does not.',
    only: 'command-line',
  },
  'value-file': {
    type: 'text',
    value: 'FILE',
    meaning: 'File with the value, taken byte for byte; - is standard input.',
    only: 'command-line',
  },
  'vault-id': { type: 'text', value: 'ID', meaning: 'Vault of the secret.', only: 'command-line' },
  'vault-name': { type: 'text', value: 'NAME', meaning: 'The same by its name.', only: 'command-line' },
} as const satisfies Flags

export const apiVerb: Verb = {
  name: 'api',
  aliases: [],
  summary: 'Make, list, change and delete vaults and secrets: `sallyport api vaults create --name app`.',
  operands: { usage: `vaults|secrets ${VERBS.join('|')} [ID]`, min: 2, max: 3 },
  flags: { ...FIELD_FLAGS, ...CONFIG_FLAG, ...STATE_DIR_FLAG },
  refused: {
    'api-key': 'no account is needed: the command changes the state folder',
    limit: 'lists are printed whole',
    'before-id': 'lists are printed whole',
  },
  notes: [
    'Policies read secrets with secrets.get(VAULT, NAME). Values are sealed in the state folder and never printed. A running gateway sees a change within a second.',
    'Exits 1 when the rules of vaults and secrets forbid what is asked; the code is in the message.',
  ],
  run: (given, { out, err }) => {
    try {
      out(`${JSON.stringify(answer(given), undefined, 2)}\n`)
      return Promise.resolve(EXIT.ok)
    } catch (error) {
      if (!(error instanceof VaultError)) return Promise.reject(error as Error)
      err(`sallyport api: ${error.message} (${error.code})\n`)
      return Promise.resolve(EXIT.failure)
    }
  },
}

type Answer = Vault | Secret | Record<string, unknown>

function answer(given: Arguments): Answer {
  const [resource = '', verb = ''] = given.operands
  if (resource !== 'vaults' && resource !== 'secrets') {
    throw new UsageError(`api knows vaults and secrets, not ${resource}`)
  }
  if (!VERBS.includes(verb)) throw new UsageError(`api ${resource} knows ${VERBS.join(', ')}, not ${verb}`)
  const { stateDir, vaults } = settingsOf(given)
  const file = new VaultFile(vaultPath(stateDir), vaultKeys({ stateDir, keys: vaults.keys }))
  return resource === 'vaults' ? vaultAnswer(verb, given, file) : secretAnswer(verb, given, file)
}

function vaultAnswer(verb: string, given: Arguments, file: VaultFile): Answer {
  for (const flag of ['value', 'value-file', 'vault-id', 'vault-name']) refuse(given, flag, 'a vault')
  switch (verb) {
    case 'create':
      return file.createVault(fieldsOf(given))
    case 'list':
      return { vaults: file.vaults() }
    case 'get':
      return found(file.vaults(), idOf(given), 'vault')
    case 'update':
      return file.updateVault(idOf(given), fieldsOf(given))
    default:
      file.deleteVault(idOf(given))
      return {}
  }
}

function secretAnswer(verb: string, given: Arguments, file: VaultFile): Answer {
  switch (verb) {
    case 'create': {
      const vault = given.text('vault-id') ?? given.text('vault-name')
      if (vault === undefined) throw new UsageError('a secret needs --vault-id or --vault-name')
      const value = valueOf(given)
      if (value === undefined) throw new UsageError('a secret needs --value or --value-file')
      return file.createSecret(vault, value, fieldsOf(given))
    }
    case 'list':
      return { secrets: file.secrets() }
    case 'get':
      return found(file.secrets(), idOf(given), 'secret')
    case 'update':
      return file.updateSecret(idOf(given), valueOf(given), fieldsOf(given))
    default:
      file.deleteSecret(idOf(given))
      return {}
  }
}

function refuse(given: Arguments, flag: string, what: string): void {
  if (given.text(flag) !== undefined) throw new UsageError(`${what} has no --${flag}`)
}

function fieldsOf(given: Arguments): ObjectFields {
  return { name: given.text('name'), description: given.text('description'), metadata: given.text('metadata') }
}

function idOf(given: Arguments): string {
  const id = given.operands[2] ?? given.text('id')
  if (id === undefined) throw new UsageError('the id is needed: `list` shows it')
  return id
}

function found<T extends { readonly id: string }>(all: readonly T[], id: string, kind: 'vault' | 'secret'): T {
  const one = all.find((candidate) => candidate.id === id)
  const code = kind === 'vault' ? 'ERR_NGROK_24009' : 'ERR_NGROK_24008'
  if (one === undefined) throw new VaultError(code, `there is no ${kind} ${id}`)
  return one
}

function valueOf(given: Arguments): string | undefined {
  const file = given.text('value-file')
  const text = given.text('value')
  if (file !== undefined && text !== undefined) throw new UsageError('give either --value or --value-file')
  if (file === undefined) return text
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (error) {
    throw new UsageError(`--value-file ${file}: ${(error as Error).message}`)
  }
}
