/** What happens in a front end whose requests are all relayed, for the tests of `relay` on both engines. */
import { expect } from 'vitest'
import type { AnswerEdits, ExchangeHandle } from '../../src/listener/front-end.ts'
import { PlainEvents } from './wire-gateway.ts'

/** What is done to answers where a test says nothing else. */
export const OURS: AnswerEdits = { lines: 'x-request-id: ours\r\n', removed: '', clocks: [] }

/** Relays everything, and asks for the answers only when it is told to. */
export abstract class RelayingEvents extends PlainEvents {
  lines = 'x-added: yes\r\n'
  answer: AnswerEdits | undefined = OURS
  /** What was told, in order. */
  readonly told: string[] = []

  /** Calls `relay` for the request of that head, now or later. */
  protected abstract decide(relay: () => void, head: string): void

  override onRequest(handle: ExchangeHandle, head: string): void {
    this.heads.push(head)
    this.decide(() => this.frontEnd.relay!(handle, this.target, this.lines, this.answer), head)
  }
  override onResponse(...response: Parameters<PlainEvents['onResponse']>): void {
    this.told.push('response')
    super.onResponse(...response)
  }
  onAnswered(_handle: ExchangeHandle, status: number, atMs: number): void {
    this.told.push(`answered ${status}`)
    expect(atMs).toBeGreaterThan(0)
  }
  override onDone(...done: Parameters<PlainEvents['onDone']>): void {
    this.told.push(`done ${done[1].status} ${done[1].end}`)
    super.onDone(...done)
  }
}
