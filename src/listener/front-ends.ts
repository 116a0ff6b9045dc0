/**
 * The front ends of a worker as one: each listener runs on the engine that it names, and an exchange's handle tells which one it
 * belongs to. An engine that no listener has named is not loaded.
 */
import {
  type BodyFilter,
  type Engine,
  type ExchangeHandle,
  type FrontEnd,
  type FrontEndCapabilities,
  type FrontEndLimits,
  type HeldBodies,
  type ListenOptions,
  type ListenTls,
  NOTHING_OPEN,
  type OpenConnections,
  type Peer,
  type PreparedTls,
  type UpstreamTarget,
} from './front-end.ts'

export class FrontEnds implements FrontEnd {
  readonly #make: (engine: Engine) => FrontEnd
  readonly #made = new Map<Engine, FrontEnd>()
  /** Those of them that requests ask for. */
  #uws: FrontEnd | undefined
  #native: FrontEnd | undefined
  readonly #listeners = new Map<number, FrontEnd>()
  #limits: FrontEndLimits | undefined
  #isDraining = false

  /** `make` is called once per engine, when its first listener comes. */
  constructor(make: (engine: Engine) => FrontEnd) {
    this.#make = make
  }

  /** Of the default engine; `get` has those of each. */
  get capabilities(): FrontEndCapabilities {
    return this.get('uws').capabilities
  }

  /** The front end of an engine; made when there is none yet. */
  get(engine: Engine): FrontEnd {
    let frontEnd = this.#made.get(engine)
    if (frontEnd !== undefined) return frontEnd
    frontEnd = this.#make(engine)
    if (this.#limits !== undefined) frontEnd.setLimits(this.#limits)
    if (this.#isDraining) frontEnd.drain()
    this.#made.set(engine, frontEnd)
    if (engine === 'uws') this.#uws = frontEnd
    else this.#native = frontEnd
    return frontEnd
  }

  /** The front end that an exchange belongs to. */
  of(handle: ExchangeHandle): FrontEnd {
    // not `%`: handles are beyond 32 bits, and the remainder of such a number is a call
    return (handle & 1) === 1 ? (this.#native ?? this.get('native')) : (this.#uws ?? this.get('uws'))
  }

  get inFlight(): number {
    let sum = 0
    for (const frontEnd of this.#made.values()) sum += frontEnd.inFlight
    return sum
  }

  async listen(options: ListenOptions): Promise<void> {
    const frontEnd = this.get(options.engine ?? 'uws')
    await frontEnd.listen(options)
    this.#listeners.set(options.id, frontEnd)
  }

  prepareTls(listenerId: number, tls: ListenTls): PreparedTls {
    const frontEnd = this.#listeners.get(listenerId)
    if (frontEnd === undefined) throw new Error(`there is no listener ${listenerId}`)
    return frontEnd.prepareTls(listenerId, tls)
  }

  closeListener(id: number): void {
    this.#listeners.get(id)?.closeListener(id)
  }

  connectionsOf(listenerId: number): number {
    return this.#listeners.get(listenerId)?.connectionsOf(listenerId) ?? 0
  }

  openOf(listenerId: number): OpenConnections {
    return this.#listeners.get(listenerId)?.openOf(listenerId) ?? NOTHING_OPEN
  }

  setLimits(limits: FrontEndLimits): void {
    this.#limits = limits
    for (const frontEnd of this.#made.values()) frontEnd.setLimits(limits)
  }

  drain(): void {
    this.#isDraining = true
    for (const frontEnd of this.#made.values()) frontEnd.drain()
  }

  async close(): Promise<void> {
    await Promise.all([...this.#made.values()].map((frontEnd) => frontEnd.close()))
  }

  peer(handle: ExchangeHandle): Peer {
    return this.of(handle).peer(handle)
  }

  readRequestBody(handle: ExchangeHandle, limitBytes: number): void {
    this.of(handle).readRequestBody(handle, limitBytes)
  }

  heldBodies(handle: ExchangeHandle): HeldBodies | undefined {
    return this.of(handle).heldBodies?.(handle)
  }

  forward(handle: ExchangeHandle, target: UpstreamTarget, head: string, body?: Uint8Array): void {
    this.of(handle).forward(handle, target, head, body)
  }

  canRepeat(handle: ExchangeHandle): boolean {
    return this.of(handle).canRepeat(handle)
  }

  readResponseBody(handle: ExchangeHandle, limitBytes: number, isLent?: boolean): void {
    this.of(handle).readResponseBody(handle, limitBytes, isLent)
  }

  continueResponse(handle: ExchangeHandle, head: string, body?: Uint8Array, filter?: () => BodyFilter): void {
    this.of(handle).continueResponse(handle, head, body, filter)
  }

  respond(handle: ExchangeHandle, head: string, body: Uint8Array | string): void {
    this.of(handle).respond(handle, head, body)
  }

  abort(handle: ExchangeHandle): void {
    this.of(handle).abort(handle)
  }
}
