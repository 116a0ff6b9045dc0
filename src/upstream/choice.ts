/**
 * How one of several targets is chosen: in turn, by load, by response time, or by a key.
 *
 * Source: issue text "round robin, least-request with two choices, EWMA, consistent hash (key by expression), weights".
 */

/** What the rules of choice look at. */
export interface Choosable {
  /** As configured. */
  readonly weight: number
  /** What it counts as now: less than `weight` while it starts slowly. */
  share: number
  /** Credit of the smooth round robin. */
  credit: number
  /** Of its name; never changes. */
  readonly seed: number
  readonly inFlight: number
  /** 0 = nothing is known. */
  averageMs(nowMs: number): number
}

export const BALANCE_METHODS = ['round-robin', 'least-request', 'ewma', 'hash'] as const
export type BalanceMethod = (typeof BALANCE_METHODS)[number]

/** One after the other. */
export class Turn {
  // workers that all begin with the first one would send it their first request each
  #next = Math.floor(Math.random() * 1024)

  /** `isEven`: all shares are the same. The list is not empty. */
  next<T extends Choosable>(list: readonly T[], isEven: boolean): T {
    if (isEven) {
      this.#next = (this.#next + 1) % list.length
      return list[this.#next]! // below the length
    }
    // smooth weighted round robin, as nginx has it: everybody earns its share, the richest pays for all
    let total = 0
    let best = list[0]! // not empty
    for (const one of list) {
      one.credit += one.share
      total += one.share
      if (one.credit > best.credit) best = one
    }
    best.credit -= total
    return best
  }
}

/** The better of two that are drawn by their shares. */
function betterOfTwo<T extends Choosable>(list: readonly T[], isEven: boolean, cost: (one: T) => number): T {
  const first = draw(list, isEven, undefined)
  const second = draw(list, isEven, first)
  return cost(second) < cost(first) ? second : first
}

/** With uneven shares the same one may come twice: then it is chosen, as often as its share says. */
function draw<T extends Choosable>(list: readonly T[], isEven: boolean, not: T | undefined): T {
  if (isEven) {
    const at = Math.floor(Math.random() * list.length)
    const drawn = list[at]! // random() is below 1
    return drawn === not ? list[(at + 1) % list.length]! : drawn
  }
  let left = Math.random() * list.reduce((sum, one) => sum + one.share, 0)
  for (const one of list) {
    left -= one.share
    if (left < 0) return one
  }
  return list.at(-1)! // rounding
}

/** Fewest requests under way for its share. */
export function leastRequest<T extends Choosable>(list: readonly T[], isEven: boolean): T {
  return betterOfTwo(list, isEven, ({ inFlight, share }) => (inFlight + 1) / share)
}

/** Shortest expected wait: response time times the requests before one's own. One that is not known yet gets one request. */
export function fastest<T extends Choosable>(list: readonly T[], isEven: boolean, nowMs: number): T {
  return betterOfTwo(list, isEven, (one) => {
    const averageMs = one.averageMs(nowMs)
    if (averageMs === 0) return one.inFlight === 0 ? 0 : Infinity
    return averageMs * (one.inFlight + 1)
  })
}

/**
 * The same key gets the same target, and when one goes only its own keys move (rendezvous hashing, weighted). Slow starts do
 * not matter here: keys would move twice.
 */
export function byKey<T extends Choosable>(list: readonly T[], key: number): T {
  let best = list[0]! // not empty
  let bestScore = -Infinity
  for (const one of list) {
    // uniform in (0, 1)
    const uniform = (mix(one.seed ^ key) + 0.5) / 2 ** 32
    const score = -one.weight / Math.log(uniform)
    if (score <= bestScore) continue
    bestScore = score
    best = one
  }
  return best
}

/** FNV-1a over the UTF-16 units of a text, mixed once more; 32 bits. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return mix(hash)
}

/** MurmurHash3's last step: every bit of the input reaches every bit of the result. */
function mix(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
