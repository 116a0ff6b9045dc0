/**
 * What the gateway counts while it serves: one of these in each process, read by the primary every few seconds.
 *
 * Counting costs two or three map look-ups and one addition: nothing is allocated per request, label values are never
 * joined into strings. Label values come from configuration or from closed lists (O-48): never pass a raw path, a
 * header, a client's address, or a host that the configuration does not name.
 *
 * Source: operations.md O-46 … O-50.
 */
import { FAMILIES, LATENCY_BOUNDS_SECONDS, MAX_SERIES, METHOD_LABELS, type FamilyKey } from './families.ts'
import { SeriesTable, type SeriesDefinition } from './series-table.ts'

/** What one process tells the primary: series it has not told before, and every number. */
export interface MetricsReport {
  /** How many series the receiver knew; the definitions continue there. */
  readonly from: number
  readonly definitions: readonly SeriesDefinition[]
  readonly values: Float64Array
}

type Tree = Map<string, number | Tree>

/** Series that were found, by the lengths of their names. */
interface LastFound {
  readonly key: FamilyKey
  readonly first: string
  readonly second: string
  /** '' for families of one label, whose `second` is empty too. */
  readonly third: string
  readonly at: number
}

const LAST_MASK = 127

interface EndpointSlots {
  readonly endpoint: string
  /** method index × 1000 + status → slot of the counter. */
  readonly requests: Map<number, number>
  /** What was counted last: requests of one kind come again and again. */
  lastMethod: string
  lastStatus: number
  lastAt: number
  readonly duration: number
  readonly requestBytes: number
  readonly responseBytes: number
}

const METHOD_INDEX = new Map<string, number>(METHOD_LABELS.map((method, index) => [method, index]))
const OTHER_METHOD = METHOD_LABELS.length - 1

/** Statuses as label values, made once. Outside 0–999 is `0`. */
const STATUS_LABELS: readonly string[] = Array.from({ length: 1000 }, (_, status) => String(status))

function statusLabel(status: number): string {
  return STATUS_LABELS[status] ?? '0'
}

export class Metrics {
  readonly #table: SeriesTable
  readonly #endpoints = new Map<string, EndpointSlots>()
  #lastEndpoint: EndpointSlots | undefined
  readonly #trees = new Map<FamilyKey, Tree>()
  readonly #last: (LastFound | undefined)[] = Array.from({ length: LAST_MASK + 1 }, () => undefined)
  readonly #gauges: { readonly at: number; readonly read: () => number }[] = []
  #inFlight = 0
  /** Requests that have begun without `requestStarted`, and not ended. */
  inFlightElsewhere: () => number = () => 0

  /** @param maxSeries O-49: series this process may make before the rest goes to `__other__` */
  constructor(maxSeries: number = MAX_SERIES) {
    this.#table = new SeriesTable(maxSeries)
    this.gauge('httpRequestsInFlight', [], () => this.inFlight)
  }

  /** A request has begun; must be followed by exactly one `httpRequest`. */
  requestStarted(): void {
    this.#inFlight += 1
  }

  /**
   * A request has ended: answered, refused or abandoned.
   *
   * @param endpoint the endpoint's name; '' when none was found
   * @param method as received; unknown ones count as `OTHER`
   * @param status as logged (499 for a client that went away)
   * @param durationMs from the complete head to the end of the response
   * @param bytesIn body bytes received
   * @param bytesOut body bytes sent
   */
  httpRequest(
    endpoint: string,
    method: string,
    status: number,
    durationMs: number,
    bytesIn: number,
    bytesOut: number,
  ): void {
    if (this.#inFlight > 0) this.#inFlight -= 1
    this.#countRequest(endpoint, method, status, durationMs, bytesIn, bytesOut)
  }

  /** A request has ended that never began with `requestStarted`; otherwise as `httpRequest`. */
  requestElsewhere(
    endpoint: string,
    method: string,
    status: number,
    durationMs: number,
    bytesIn: number,
    bytesOut: number,
  ): void {
    this.#countRequest(endpoint, method, status, durationMs, bytesIn, bytesOut)
  }

  /** A request that the front end refused before it was announced: counts without having been in flight. */
  refusedRequest(method: string, status: number): void {
    this.#countRequest('', method, status, 0, 0, 0)
  }

  /**
   * An upstream leg has its answer's head, or failed.
   *
   * @param code the status, or a reason of `UpstreamFailureReason` when there was no answer
   * @param firstByteMs from the start of the leg to the first byte of the answer; negative = there was none
   */
  upstreamRequest(endpoint: string, target: string, code: number | string, firstByteMs: number): void {
    const label = typeof code === 'number' ? statusLabel(code) : code
    this.#values[this.#slot3('upstreamRequests', endpoint, target, label)]! += 1
    if (firstByteMs >= 0) this.#observe(this.#slot1('upstreamDuration', endpoint), firstByteMs)
  }

  /** A new upstream connection was made. */
  upstreamConnected(endpoint: string, connectMs: number): void {
    this.#observe(this.#slot1('upstreamConnect', endpoint), connectMs)
  }

  /** A request is sent upstream once more. */
  upstreamRetry(reason: string): void {
    this.#values[this.#slot1('upstreamRetries', reason)]! += 1
  }

  /** A WebSocket that was open has ended. */
  webSocketMessages(endpoint: string, messages: { readonly messagesIn: number; readonly messagesOut: number }): void {
    const into = this.#slotOf('webSocketMessages', [endpoint, 'in'])
    const out = this.#slotOf('webSocketMessages', [endpoint, 'out'])
    this.#values[into]! += messages.messagesIn
    this.#values[out]! += messages.messagesOut
  }

  /** A target was taken out because of its failures. */
  upstreamEjection(target: string): void {
    this.#values[this.#slot1('upstreamEjections', target)]! += 1
  }

  /** A policy action ran. `outcome`: `next`, `respond`, `forward`, `close` or `error`. */
  action(endpoint: string, action: string, outcome: string): void {
    this.#values[this.#slot3('policyActions', endpoint, action, outcome)]! += 1
  }

  /** The rules of one phase ran; `phase` is its name in the policy. */
  policyDuration(phase: string, durationMs: number): void {
    this.#observe(this.#slot1('policyDuration', phase), durationMs)
  }

  /** A rate limit decided. `decision`: `allowed` or `limited`; `mode`: who decided (rate-limit/store.ts). */
  rateLimit(name: string, decision: 'allowed' | 'limited', mode: string): void {
    this.#values[this.#slot3('rateLimitDecisions', name, decision, mode)]! += 1
  }

  /** A rate limit waited for the shared store. */
  rateLimitStore(durationMs: number): void {
    this.#observe(this.#slotOf('rateLimitStore', []), durationMs)
  }

  /** A rule of the rule set matched. `phase`: `1` … `5`. */
  wafMatch(ruleId: number, phase: number): void {
    this.#values[this.#slot2('wafMatches', String(ruleId), statusLabel(phase))]! += 1
  }

  /** A key set was fetched, or not. */
  jwksRefresh(result: 'success' | 'failure' | 'unchanged'): void {
    this.#values[this.#slot1('jwksRefresh', result)]! += 1
  }

  /** Log lines were lost; `log`: `access` or `operational`. */
  logDropped(log: string, lines: number): void {
    this.#values[this.#slot1('logDropped', log)]! += lines
  }

  /** Adds to any counter of the table; for what has no method of its own. Label values in the family's order. */
  count(key: FamilyKey, labelValues: readonly string[], by = 1): void {
    this.#values[this.#slotOf(key, labelValues)]! += by
  }

  /** Records one duration in any histogram of the table. */
  observe(key: FamilyKey, labelValues: readonly string[], durationMs: number): void {
    this.#observe(this.#slotOf(key, labelValues), durationMs)
  }

  /**
   * A number that is read when metrics are collected. Gauges of the same name and labels are added up over processes.
   * Register once; `read` must not throw for long-dead state (return 0 instead).
   */
  gauge(key: FamilyKey, labelValues: readonly string[], read: () => number): void {
    this.#gauges.push({ at: this.#slotOf(key, labelValues), read })
  }

  /** Sets a gauge now; for values that come as events. */
  setGauge(key: FamilyKey, labelValues: readonly string[], value: number): void {
    this.#values[this.#slotOf(key, labelValues)] = value
  }

  /** Requests that have begun and not ended. */
  get inFlight(): number {
    return this.#inFlight + this.inFlightElsewhere()
  }

  /** The state of every series, for a receiver that already knows the first `known` of them. */
  report(known: number): MetricsReport {
    for (const { at, read } of this.#gauges) {
      const value = read()
      this.#values[at] = Number.isFinite(value) ? value : 0
    }
    return {
      from: known,
      definitions: this.#table.definitions.slice(known),
      values: this.#table.values.slice(0, this.#table.used),
    }
  }

  // the table replaces its array when it grows, so it is fetched anew for every addition
  get #values(): Float64Array {
    return this.#table.values
  }

  #countRequest(
    endpoint: string,
    method: string,
    status: number,
    durationMs: number,
    bytesIn: number,
    bytesOut: number,
  ): void {
    let slots = this.#lastEndpoint
    if (slots === undefined || endpoint !== slots.endpoint) {
      slots = this.#endpoints.get(endpoint) ?? this.#newEndpoint(endpoint)
      this.#lastEndpoint = this.#endpoints.has(endpoint) ? slots : undefined
    }
    if (slots.lastStatus !== status || slots.lastMethod !== method) this.#findRequestSeries(slots, method, status)
    const values = this.#values
    values[slots.lastAt]! += 1 // slots are within the table by construction, here and below
    values[slots.requestBytes]! += bytesIn
    values[slots.responseBytes]! += bytesOut
    this.#observe(slots.duration, durationMs)
  }

  #observe(start: number, durationMs: number): void {
    const values = this.#values
    const seconds = durationMs > 0 ? durationMs / 1000 : 0
    const bounds = LATENCY_BOUNDS_SECONDS
    let bucket = 0
    // most requests of a gateway are short, so the search from below ends early
    while (bucket < bounds.length && seconds > bounds[bucket]!) bucket += 1
    values[start + bucket]! += 1
    values[start + bounds.length + 1]! += seconds
  }

  #newEndpoint(endpoint: string): EndpointSlots {
    const remember = !this.#table.isFull
    const slots: EndpointSlots = {
      endpoint,
      requests: new Map(),
      lastMethod: '',
      lastStatus: -1,
      lastAt: 0,
      duration: this.#table.add('httpRequestDuration', [endpoint]),
      requestBytes: this.#table.add('httpRequestBytes', [endpoint]),
      responseBytes: this.#table.add('httpResponseBytes', [endpoint]),
    }
    if (remember) this.#endpoints.set(endpoint, slots)
    return slots
  }

  #findRequestSeries(slots: EndpointSlots, method: string, status: number): void {
    const methodIndex = METHOD_INDEX.get(method) ?? OTHER_METHOD
    const code = methodIndex * 1000 + status
    const known = slots.requests.get(code)
    const remember = known !== undefined || !this.#table.isFull
    // the index comes from METHOD_LABELS
    const label = METHOD_LABELS[methodIndex]!
    slots.lastAt = known ?? this.#table.add('httpRequests', [slots.endpoint, label, statusLabel(status)])
    if (remember) slots.requests.set(code, slots.lastAt)
    slots.lastMethod = method
    slots.lastStatus = remember ? status : -1
  }

  #tree(key: FamilyKey): Tree {
    let tree = this.#trees.get(key)
    if (tree === undefined) {
      tree = new Map()
      this.#trees.set(key, tree)
    }
    return tree
  }

  // One look-up per label. Trees of a family have one depth: leaves are numbers exactly at the last label. Requests of one
  // kind ask for the same series again and again: what was found last in a place is found there again.
  #slot1(key: FamilyKey, first: string): number {
    const place = (first.length + key.length * 7) & LAST_MASK
    const last = this.#last[place]
    if (last !== undefined && last.first === first && last.key === key && last.third === '') return last.at
    const found = this.#tree(key).get(first) as number | undefined
    if (found === undefined) return this.#slotOf(key, [first])
    this.#last[place] = { key, first, second: '', third: '', at: found }
    return found
  }

  #slot2(key: FamilyKey, first: string, second: string): number {
    const found = (this.#tree(key).get(first) as Tree | undefined)?.get(second)
    return found === undefined ? this.#slotOf(key, [first, second]) : (found as number)
  }

  #slot3(key: FamilyKey, first: string, second: string, third: string): number {
    const place = (first.length + second.length * 5 + third.length * 3 + key.length * 7) & LAST_MASK
    const last = this.#last[place]
    if (
      last !== undefined &&
      last.third === third &&
      last.second === second &&
      last.first === first &&
      last.key === key
    )
      return last.at
    const branch = (this.#tree(key).get(first) as Tree | undefined)?.get(second) as Tree | undefined
    const found = branch?.get(third) as number | undefined
    if (found === undefined) return this.#slotOf(key, [first, second, third])
    this.#last[place] = { key, first, second, third, at: found }
    return found
  }

  #slotOf(key: FamilyKey, labelValues: readonly string[]): number {
    if (labelValues.length !== FAMILIES[key].labels.length) {
      throw new Error(`${FAMILIES[key].name} takes ${FAMILIES[key].labels.length} label values`)
    }
    const path = labelValues.length === 0 ? [''] : labelValues
    let tree = this.#tree(key)
    for (let depth = 0; depth < path.length - 1; depth++) {
      let next = tree.get(path[depth]!) as Tree | undefined // depth is below the path's length
      if (next === undefined) {
        // a full table makes no new branches, or unknown label values would still cost memory
        if (this.#table.isFull) return this.#table.add(key, labelValues)
        next = new Map()
        tree.set(path[depth]!, next)
      }
      tree = next
    }
    const leaf = path.at(-1)! // the path has at least one element
    const found = tree.get(leaf) as number | undefined
    if (found !== undefined) return found
    const remember = !this.#table.isFull
    const at = this.#table.add(key, labelValues)
    if (remember) tree.set(leaf, at)
    return at
  }
}
