/**
 * The keys of a set, found by what a token names.
 * Source: RFC 7515 §4.1.4, RFC 7517 §4.5; traffic-policy.md §5.10 ("key chosen by kid when present, otherwise all keys").
 */
import type { VerificationKey } from './jwk.ts'

export class KeyIndex {
  readonly keys: readonly VerificationKey[]
  readonly #members: ReadonlySet<VerificationKey>
  readonly #byKeyId = new Map<string, VerificationKey[]>()
  readonly #anonymous: readonly VerificationKey[]

  constructor(keys: readonly VerificationKey[]) {
    this.keys = keys
    this.#members = new Set(keys)
    this.#anonymous = keys.filter((key) => key.keyId === undefined)
    for (const key of keys) {
      if (key.keyId === undefined) continue
      const same = this.#byKeyId.get(key.keyId)
      if (same === undefined) this.#byKeyId.set(key.keyId, [key])
      else same.push(key)
    }
  }

  /**
   * The keys that may have signed a token, in the order of the set: those of its `kid`; keys without any `kid` if there is
   * none of that name; every key if the token names none.
   */
  candidates(keyId: string | undefined): readonly VerificationKey[] {
    if (keyId === undefined) return this.keys
    return this.#byKeyId.get(keyId) ?? this.#anonymous
  }

  knows(keyId: string): boolean {
    return this.#byKeyId.has(keyId)
  }

  /** Whether this very object is in the set. */
  holds(key: VerificationKey): boolean {
    return this.#members.has(key)
  }
}
