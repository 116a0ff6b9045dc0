/**
 * What is known of keys and models from their use in this worker: failures of the last minutes, times, and what providers
 * say is left. Bounded; the least recently used goes first.
 */
import type { JsonValue } from '../expression/source.ts'

const MAX_RECORDS = 1024
/** Uses that the rates are made of. */
const WINDOW = 100

export type UseResult = 'ok' | 'rate_limit' | 'timeout' | 'error'

interface UseRecord {
  readonly results: UseResult[]
  durationsMs: number
  durations: number
  remainingRequests: number | undefined
  remainingTokens: number | undefined
}

export class UseRecords {
  readonly #records = new Map<string, UseRecord>()

  note(name: string, result: UseResult, durationMs: number): void {
    const record = this.#recordOf(name)
    record.results.push(result)
    if (record.results.length > WINDOW) record.results.shift()
    if (result !== 'ok') return
    record.durationsMs = (record.durationsMs * record.durations + durationMs) / (record.durations + 1)
    record.durations = Math.min(record.durations + 1, WINDOW)
  }

  /** What the answer's fields say is left (`x-ratelimit-remaining-…`, `anthropic-ratelimit-…-remaining`). */
  noteQuota(name: string, first: (field: string) => string | undefined): void {
    const number = (...fields: readonly string[]): number | undefined => {
      for (const field of fields) {
        const value = first(field)
        if (value !== undefined && /^\d{1,15}$/.test(value)) return Number(value)
      }
      return undefined
    }
    const record = this.#recordOf(name)
    record.remainingRequests = number('x-ratelimit-remaining-requests', 'anthropic-ratelimit-requests-remaining')
    record.remainingTokens = number('x-ratelimit-remaining-tokens', 'anthropic-ratelimit-tokens-remaining')
  }

  /** `error_rate.{total,rate_limit,timeout}` as shares, `quota.{remaining_requests,remaining_tokens}` where known, `latency`. */
  view(name: string): { readonly error_rate: JsonValue; readonly quota: JsonValue; readonly latency: JsonValue } {
    const record = this.#records.get(name)
    const results = record?.results ?? []
    const share = (...kinds: readonly UseResult[]): number =>
      results.length === 0 ? 0 : results.filter((result) => kinds.includes(result)).length / results.length
    const { remainingRequests, remainingTokens } = record ?? {}
    return {
      error_rate: {
        total: share('rate_limit', 'timeout', 'error'),
        rate_limit: share('rate_limit'),
        timeout: share('timeout'),
      },
      quota: {
        ...(remainingRequests !== undefined && { remaining_requests: remainingRequests }),
        ...(remainingTokens !== undefined && { remaining_tokens: remainingTokens }),
      },
      latency: { upstream_ms_avg: record?.durationsMs ?? 0 },
    }
  }

  #recordOf(name: string): UseRecord {
    const known = this.#records.get(name)
    this.#records.delete(name)
    const record = known ?? {
      results: [],
      durationsMs: 0,
      durations: 0,
      remainingRequests: undefined,
      remainingTokens: undefined,
    }
    this.#records.set(name, record)
    if (this.#records.size > MAX_RECORDS) this.#records.delete(this.#records.keys().next().value!)
    return record
  }
}
