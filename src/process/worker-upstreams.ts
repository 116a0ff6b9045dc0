/**
 * The upstream targets of a worker beyond one configuration: their states, and the addresses of their names.
 *
 * Source: operations.md O-26 (states survive a reload); threats.md F-09 (names that move).
 */
import type { Logger } from '../access-log/logger.ts'
import type { DnsSettings } from '../config/settings.ts'
import type { UpstreamTarget } from '../listener/front-end.ts'
import type { SharedBoard } from '../shared-state/board.ts'
import { AddressBook } from '../upstream/address-book.ts'
import { TargetStates } from '../upstream/target-state.ts'
import type { Member } from '../upstream/balancer.ts'
import type { TargetUse } from './messages.ts'
import type { Snapshot, UpstreamSources } from './snapshot.ts'

/** How long a new configuration waits for its names; those that take longer are looked up by the requests. */
const LOOKUP_MS = 1_500

export class WorkerUpstreams {
  readonly addressBook: AddressBook
  readonly #states: TargetStates
  #snapshot: Snapshot | undefined
  /** Called when names stand for other addresses. */
  onChange: () => void = () => undefined

  constructor(board: SharedBoard, logger: Logger) {
    this.#states = new TargetStates(board)
    this.addressBook = new AddressBook({
      onChange: (name, addresses) => {
        logger.info({ name, addresses }, 'upstream name stands for other addresses')
        this.onChange()
      },
      onFailure: (name, error) =>
        logger.warn({ name, error: error.message }, 'upstream name cannot be looked up; what was known stays in use'),
    })
  }

  /** What a new configuration is built from. */
  sources(dns: DnsSettings): UpstreamSources {
    this.addressBook.configure(dns)
    return { states: this.#states, addresses: this.addressBook }
  }

  /** Looks up what a configuration names, before it serves. */
  async prepare(snapshot: Snapshot): Promise<void> {
    const names = [...(this.#snapshot?.groups ?? []), ...snapshot.groups].flatMap((group) => group.names)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LOOKUP_MS)
    })
    await Promise.race([this.addressBook.watch(names), late])
    clearTimeout(timer)
  }

  /** This configuration serves from now on. */
  use(snapshot: Snapshot): void {
    this.#snapshot = snapshot
    void this.addressBook.watch(snapshot.groups.flatMap((group) => group.names))
    this.#states.retain(new Set(snapshot.groups.flatMap((group) => group.stateNames)))
  }

  /** Everything that connections are kept for. */
  get targets(): readonly UpstreamTarget[] {
    return this.#snapshot?.groups.flatMap((group) => group.targets) ?? []
  }

  /** `inFlightBeside`: what `Member.inFlight` does not count. */
  uses(snapshot: Snapshot, inFlightBeside: (member: Member) => number): readonly TargetUse[] {
    const nowMs = performance.now()
    // what is in use keeps its rows, also those that the primary does not know: addresses of names
    this.#states.retain(new Set(snapshot.groups.flatMap((group) => group.stateNames)))
    return snapshot.endpoints.all.flatMap(({ name, upstream }) =>
      (upstream?.group.members ?? []).map((member) => ({
        endpoint: name,
        target: member.target.name,
        address: member.address,
        inFlight: member.inFlight + inFlightBeside(member),
        averageMs: member.averageMs(nowMs),
      })),
    )
  }

  close(): void {
    this.addressBook.close()
  }
}
