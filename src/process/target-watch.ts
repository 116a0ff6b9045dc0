/**
 * What the primary knows of upstream targets: it checks them, drains them, and tells how they are. It sends them no requests.
 *
 * Source: operations.md O-06 (drain), O-38 (targets in the admin API), O-47; threats.md T-37.
 */
import { createHash } from 'node:crypto'
import type { LogFields, Logger } from '../access-log/logger.ts'
import type { EndpointDefinition } from '../config/load.ts'
import type { DnsSettings } from '../config/settings.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { SharedBoard } from '../shared-state/board.ts'
import { AddressBook } from '../upstream/address-book.ts'
import { GROUP_DRAINED, type Member, type TargetGroup } from '../upstream/balancer.ts'
import { HealthChecks } from '../upstream/health-checks.ts'
import { TargetStates, type TargetView } from '../upstream/target-state.ts'
import type { TargetUse } from './messages.ts'
import { endpointId, targetGroup } from './snapshot.ts'

/** An endpoint as the admin API shows it. */
export interface EndpointReport {
  readonly id: string
  readonly name: string
  readonly url: string
  readonly binding: string
  readonly drained: boolean
  /** Too few targets are well, so all are used. */
  readonly panicking: boolean
  readonly targets: number
}

export interface TargetReport extends TargetView {
  /** As configured: `host:port`. */
  readonly target: string
  /** One of those that its name stands for; '' for an address, or while nothing is known of the name. */
  readonly address: string
  readonly weight: number
  /** Over all workers, as far as they have told. */
  readonly inFlight: number
  /** Average time to the first byte, where targets are chosen by that. */
  readonly averageMs: number | undefined
}

/** What `drain` and `undrain` came to. */
export interface DrainResult {
  readonly ok: boolean
  readonly message: string
}

interface Watched {
  readonly definition: EndpointDefinition
  readonly group: TargetGroup
}

export interface TargetWatchOptions {
  readonly board: SharedBoard
  readonly logger: Logger
  readonly metrics: Metrics
  /** What the workers told last. */
  readonly uses: () => readonly TargetUse[]
}

/** Rows of targets in use are touched so often, so that they are never given up. */
const TOUCH_MS = 30_000

export class TargetWatch {
  readonly #options: TargetWatchOptions
  readonly #states: TargetStates
  readonly #checks: HealthChecks
  readonly #touch: NodeJS.Timeout
  readonly #book = new AddressBook({ onChange: () => this.#updateChecks() })
  #dns = ''
  #watched: readonly Watched[] = []
  readonly #gauges = new Set<string>()

  constructor(options: TargetWatchOptions) {
    this.#options = options
    this.#states = new TargetStates(options.board)
    this.#checks = new HealthChecks({
      onChange: ({ endpoint, target, address, state, result }) => {
        const fields: LogFields = { endpoint, target, result, ...(address === '' ? {} : { address }) }
        if (state === 'failing') options.logger.warn(fields, 'target fails its health check')
        else options.logger.info(fields, 'target passes its health check again')
      },
      onResult: (target, passed) =>
        options.metrics.count('upstreamHealthChecks', [target, passed ? 'passed' : 'failed']),
    })
    this.#touch = setInterval(() => this.#keepRows(), TOUCH_MS).unref()
  }

  /** This configuration serves from now on. */
  use(definitions: readonly EndpointDefinition[], dns: DnsSettings): void {
    this.#useDns(dns)
    this.#watched = definitions.flatMap((definition) => {
      const { name, upstream } = definition
      if (upstream === undefined) return []
      return [{ definition, group: targetGroup(name, upstream, this.#states, this.#book) }]
    })
    const names = this.#watched.flatMap(({ definition, group }) =>
      // names are looked up here only for those who are checked
      definition.upstream?.traffic.healthCheck === undefined ? [] : group.names,
    )
    void this.#book.watch(names).then(() => this.#updateChecks())
    this.#updateChecks()
    this.#keepRows()
    this.#addGauges()
  }

  /** Endpoints that have an upstream. */
  endpoints(): readonly EndpointReport[] {
    return this.#watched.map(({ definition, group }) => ({
      id: endpointId(definition),
      name: definition.name,
      url: definition.url.href,
      binding: definition.binding,
      drained: group.isDrained,
      panicking: group.isPanicking,
      targets: new Set(group.members.map(({ target }) => target.name)).size,
    }))
  }

  /** The targets of an endpoint, by its id or name; undefined when there is none. */
  targets(endpoint: string): readonly TargetReport[] | undefined {
    const watched = this.#find(endpoint)
    if (watched === undefined) return undefined
    const { definition, group } = watched
    const uses = this.#options.uses().filter((use) => use.endpoint === definition.name)
    // names that are not checked are looked up by the workers only: what they use is shown as well
    return group.members.flatMap((member) => {
      const own = uses.filter(({ target }) => target === member.target.name)
      const addresses = member.address === '' ? new Set(own.map(({ address }) => address)) : new Set([member.address])
      if (addresses.size === 0) addresses.add('')
      return [...addresses].map((address) => this.#report(definition.name, group, member, address, own))
    })
  }

  #report(
    endpoint: string,
    group: TargetGroup,
    member: Member,
    address: string,
    uses: readonly TargetUse[],
  ): TargetReport {
    const state = address === member.address ? member.state : this.#states.obtain(endpoint, member.target.name, address)
    const isDrained = group.isDrained || member.whole.isDrained || state.isDrained
    const mine = uses.filter((use) => use.address === address)
    const averages = mine.map(({ averageMs }) => averageMs).filter((averageMs) => averageMs > 0)
    return {
      target: member.target.name,
      address,
      weight: member.weight,
      ...state.view(isDrained),
      inFlight: mine.reduce((sum, { inFlight }) => sum + inFlight, 0),
      averageMs: averages.length === 0 ? undefined : averages.reduce((sum, ms) => sum + ms, 0) / averages.length,
    }
  }

  /** `endpoint/host:port` of everything that is drained, endpoints as a whole without a target. */
  drained(): readonly string[] {
    return this.#watched.flatMap(({ definition, group }) => [
      ...(group.isDrained ? [definition.name] : []),
      ...new Set(
        group.members.flatMap(({ target, address, state, whole }) => [
          ...(whole.isDrained ? [`${definition.name}/${target.name}`] : []),
          ...(state !== whole && state.isDrained ? [`${definition.name}/${address}`] : []),
        ]),
      ),
    ])
  }

  /** What tells one state of an endpoint's drains from another (O-38, `If-Match`). */
  version(endpoint: string): string | undefined {
    const watched = this.#find(endpoint)
    if (watched === undefined) return undefined
    const drained = this.drained().filter((name) => `${name}/`.startsWith(`${watched.definition.name}/`))
    return createHash('sha256').update(drained.join('\0')).digest('hex').slice(0, 16)
  }

  /**
   * Takes a target, or a whole endpoint, out of use, or puts it back. `name`: `endpoint`, `endpoint/host:port` as configured,
   * or `endpoint/address`. It holds in all workers at once and until it is undone, across reloads.
   */
  drain(name: string, isDrained: boolean): DrainResult {
    const { logger } = this.#options
    const found = this.#resolve(name)
    if (typeof found === 'string') return { ok: false, message: found }
    const { watched, members, rest } = found
    const { definition } = watched
    let isNews = false
    if (rest === '') {
      isNews = this.#drainGroup(definition.name, isDrained)
      // what puts the endpoint back puts back all of it
      if (!isDrained) {
        for (const it of members.flatMap(({ state, whole }) => [state, whole])) isNews = it.setDrained(false) || isNews
      }
    } else {
      for (const { target, state, whole } of members) {
        isNews = (target.name === rest ? whole : state).setDrained(isDrained) || isNews
      }
    }
    const what = rest === '' ? `the endpoint ${definition.name}` : `${rest} of ${definition.name}`
    const verb = isDrained ? 'drained' : 'in use'
    if (!isNews) return { ok: true, message: `${what} is ${verb} already` }
    logger.info(
      { endpoint: definition.name, ...(rest === '' ? {} : { target: rest }) },
      isDrained ? 'drained' : 'undrained',
    )
    return { ok: true, message: `${what} is ${verb}` }
  }

  close(): void {
    clearInterval(this.#touch)
    this.#checks.close()
    this.#book.close()
  }

  #drainGroup(endpoint: string, isDrained: boolean): boolean {
    const { words } = this.#states.group(endpoint)
    const before = Atomics.exchange(words, GROUP_DRAINED, isDrained ? 1 : 0)
    if ((before !== 0) === isDrained) return false
    this.#states.board.changed()
    return true
  }

  /** Endpoint names may hold slashes (`namespace/name`): the longest one that fits is meant. */
  #resolve(
    name: string,
  ): { readonly watched: Watched; readonly members: readonly Member[]; readonly rest: string } | string {
    const fits = this.#watched
      .flatMap((watched) => [watched.definition.name, endpointId(watched.definition)].map((key) => ({ watched, key })))
      .filter(({ key }) => name === key || name.startsWith(`${key}/`))
      .toSorted((one, other) => other.key.length - one.key.length)
    const { watched, key = '' } = fits[0] ?? {}
    if (watched === undefined) {
      const names = this.#watched.map(({ definition }) => definition.name)
      return `no endpoint with an upstream is named ${name}; there are ${names.join(', ') || 'none'}`
    }
    const rest = name.slice(key.length + 1)
    const { members } = watched.group
    if (rest === '') return { watched, members, rest }
    const meant = members.filter(({ target, address }) => rest === target.name || rest === address)
    if (meant.length > 0) return { watched, members: meant, rest }
    const names = [...new Set(members.map(({ target }) => target.name))]
    return `${watched.definition.name} has no target ${rest}; it has ${names.join(', ')}`
  }

  #find(endpoint: string): Watched | undefined {
    return this.#watched.find(({ definition }) => definition.name === endpoint || endpointId(definition) === endpoint)
  }

  #useDns(dns: DnsSettings): void {
    const key = JSON.stringify(dns)
    if (key === this.#dns) return
    this.#dns = key
    this.#book.configure(dns)
  }

  #updateChecks(): void {
    this.#checks.update(
      this.#watched.flatMap(({ definition, group }) => {
        const settings = definition.upstream?.traffic.healthCheck
        if (settings === undefined) return []
        return group.members.map((member) => ({ endpoint: definition.name, member, settings }))
      }),
    )
  }

  #keepRows(): void {
    this.#states.retain(new Set(this.#watched.flatMap(({ group }) => group.stateNames)))
    for (const { definition } of this.#watched) this.#states.group(definition.name)
  }

  #addGauges(): void {
    for (const { group } of this.#watched) {
      for (const { target } of group.members) {
        const { name } = target
        if (this.#gauges.has(name)) continue
        this.#gauges.add(name)
        this.#options.metrics.gauge('upstreamHealthy', [name], () => (this.#isHealthy(name) ? 1 : 0))
      }
    }
  }

  /** Some endpoint has the target, and none has taken it out. */
  #isHealthy(name: string): boolean {
    const tick = this.#options.board.tick()
    const groups = this.#watched.map(({ group }) => group.members.filter(({ target }) => target.name === name))
    const having = groups.filter((members) => members.length > 0)
    return (
      having.length > 0 &&
      having.every((members) => members.some(({ state, whole }) => state.isHealthy(tick) && !whole.isDrained))
    )
  }
}
