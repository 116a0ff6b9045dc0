/**
 * Questions that the gateway asks its targets by itself: a TCP connection, or a GET whose status must be an expected one.
 * They run once per gateway, in the primary; what they come to lies in the rows that all workers read.
 *
 * The first answer decides at once; later it takes several in a row to change a state. At most `MAX_OPEN` questions are under
 * way at a time, each with a deadline.
 *
 * Source: issue text "active HTTP/TCP checks"; threats.md T-37.
 */
import { request } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import type { Socket } from 'node:net'
import type { HealthCheckSettings } from '../config/upstream-settings.ts'
import type { UpstreamTarget } from '../listener/front-end.ts'
import type { Member } from './balancer.ts'
import { openConnection } from './connector.ts'
import type { CheckResult, TargetState } from './target-state.ts'

const MAX_OPEN = 64
/** Checks of many targets do not begin in one moment. */
const FIRST_WITHIN_MS = 250

/** A target that is to be checked. */
export interface CheckedTarget {
  readonly endpoint: string
  readonly member: Member
  readonly settings: HealthCheckSettings
}

/** The state of a target is another one now. */
export interface HealthChange {
  readonly endpoint: string
  readonly target: string
  readonly address: string
  readonly state: 'passing' | 'failing'
  readonly result: CheckResult
}

export interface HealthCheckEvents {
  readonly onChange: (change: HealthChange) => void
  readonly onResult: (target: string, passed: boolean) => void
}

export class HealthChecks {
  readonly #events: HealthCheckEvents
  readonly #running = new Map<string, Check>()
  readonly #gate = new Gate(MAX_OPEN)

  constructor(events: HealthCheckEvents) {
    this.#events = events
  }

  /** Checks exactly these from now on. Those that are checked alike already go on as they are. */
  update(targets: readonly CheckedTarget[]): void {
    const wanted = new Map(targets.map((it) => [keyOf(it), it]))
    for (const [key, check] of this.#running) {
      if (wanted.has(key)) continue
      check.stop()
      this.#running.delete(key)
      if (!targets.some(({ member }) => member.state.name === check.state.name)) check.state.unchecked()
    }
    for (const [key, target] of wanted) {
      if (!this.#running.has(key)) this.#running.set(key, new Check(target, this.#events, this.#gate))
    }
  }

  close(): void {
    for (const check of this.#running.values()) check.stop()
    this.#running.clear()
  }
}

function keyOf({ member, settings }: CheckedTarget): string {
  const { protocol, tls, addresses } = member.target
  return JSON.stringify([member.state.name, settings, protocol, tls, addresses])
}

/** The questions to one target. */
class Check {
  readonly state: TargetState
  readonly #target: CheckedTarget
  readonly #events: HealthCheckEvents
  readonly #gate: Gate
  #timer: NodeJS.Timeout | undefined
  #isStopped = false
  /** Results in a row that differ from the state. */
  #differing = 0

  constructor(target: CheckedTarget, events: HealthCheckEvents, gate: Gate) {
    this.#target = target
    this.state = target.member.state
    this.#events = events
    this.#gate = gate
    this.#askIn(Math.random() * Math.min(FIRST_WITHIN_MS, target.settings.intervalMs))
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  #askIn(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#gate.enter(() => {
        if (this.#isStopped) {
          this.#gate.leave()
          return
        }
        ask(this.#target, (result, passed) => {
          this.#gate.leave()
          if (this.#isStopped) return
          this.#settle(result, passed)
          this.#askIn(this.#target.settings.intervalMs * (0.95 + Math.random() / 10))
        })
      })
    }, ms).unref()
  }

  #settle(result: CheckResult, passed: boolean): void {
    const { endpoint, member, settings } = this.#target
    this.#events.onResult(member.target.name, passed)
    const before = this.state.check
    const isSame = (before === 'passing') === passed && before !== 'unknown'
    this.#differing = isSame ? 0 : this.#differing + 1
    const needed = before === 'unknown' ? 1 : passed ? settings.passesAfter : settings.failsAfter
    if (isSame || this.#differing < needed) {
      this.state.checked(before, result)
      return
    }
    this.#differing = 0
    const state = passed ? 'passing' : 'failing'
    this.state.checked(state, result)
    // that a target is well from the beginning is no news
    if (before === 'unknown' && passed) return
    this.#events.onChange({ endpoint, target: member.target.name, address: member.address, state, result })
  }
}

/** Asks once; `done` is called once. */
function ask({ member, settings }: CheckedTarget, done: (result: CheckResult, passed: boolean) => void): void {
  const { target } = member
  let socket: Socket | null = null
  let isDone = false
  const finish = (result: CheckResult, passed: boolean): void => {
    if (isDone) return
    isDone = true
    clearTimeout(timer)
    socket?.on('error', ignore)
    socket?.destroy()
    done(result, passed)
  }
  const timer = setTimeout(() => finish('timeout', false), settings.timeoutMs)
  const timers = { ...target.timers, connectMs: settings.timeoutMs }
  openConnection({ ...target, timers }, (error, opened) => {
    if (isDone) {
      opened?.on('error', ignore)
      opened?.destroy()
      return
    }
    if (error !== null || opened === null) {
      finish(error?.reason === 'connect_timeout' ? 'timeout' : 'refused', false)
      return
    }
    socket = opened
    if (settings.path === undefined) {
      finish('connected', true)
      return
    }
    if (target.http2 === true) {
      askHttp2(opened, target, settings, finish)
      return
    }
    const asked = request({
      createConnection: () => opened,
      method: 'GET',
      path: settings.path,
      headers: { host: settings.host ?? target.name, 'user-agent': 'sallyport-health-check', connection: 'close' },
      setHost: false,
    })
    asked.on('error', () => finish('bad_answer', false))
    asked.on('response', (response) => {
      const status = response.statusCode ?? 0
      response.resume()
      finish(
        status,
        settings.expect.some(([first, last]) => status >= first && status <= last),
      )
    })
    asked.end()
  })
}

/** The same in HTTP/2, over a connection that is there. */
function askHttp2(
  socket: Socket,
  target: UpstreamTarget,
  settings: CheckedTarget['settings'],
  finish: (result: CheckResult, passed: boolean) => void,
): void {
  const client = connectHttp2(`${target.protocol}://${target.name}`, { createConnection: () => socket })
  client.on('error', () => finish('bad_answer', false))
  const asked = client.request({
    ':path': settings.path,
    ':authority': settings.host ?? target.name,
    'user-agent': 'sallyport-health-check',
  })
  asked.on('error', () => finish('bad_answer', false))
  asked.on('response', (headers) => {
    const status = headers[':status'] ?? 0
    finish(
      status,
      settings.expect.some(([first, last]) => status >= first && status <= last),
    )
  })
  asked.end()
}

/** Lets so many in at a time; the others wait in their order. */
class Gate {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(places: number) {
    this.#free = places
  }

  enter(begin: () => void): void {
    if (this.#free > 0) {
      this.#free -= 1
      begin()
    } else {
      // one entry per target at most: a check does not ask again before it was let in
      this.#waiting.push(begin)
    }
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free += 1
    else next()
  }
}

function ignore(): void {}
