/**
 * Slot table behind exchange handles: objects are kept and reused, and a handle that was given back is never valid
 * again because its generation has moved on. Handles of a table are even: odd ones are the native front end's.
 */
import { type ExchangeHandle, HANDLE_SLOT_MASK } from './front-end.ts'

const SLOT_BITS = 20
/** 2^33 generations of 20 bits fill the 53 bits of a safe integer. */
const MAX_GENERATION = 2 ** 33

/** What a table keeps: an object that knows its slot and its present handle (0 while free). */
export interface Slotted {
  readonly slot: number
  generation: number
  handle: ExchangeHandle
}

export class SlotTable<T extends Slotted> {
  readonly #create: (slot: number) => T
  readonly #capacity: number
  readonly #items: T[] = []
  readonly #free: T[] = []

  /** `capacity`: the most objects at a time; at most 2^19. */
  constructor(create: (slot: number) => T, capacity = (HANDLE_SLOT_MASK + 1) / 2) {
    this.#create = create
    this.#capacity = capacity
  }

  get inUse(): number {
    return this.#items.length - this.#free.length
  }

  /** An object with a fresh handle, or undefined when the table is full. */
  acquire(): T | undefined {
    let item = this.#free.pop()
    if (item === undefined) {
      if (this.#items.length >= this.#capacity) return undefined
      item = this.#create(this.#items.length)
      this.#items.push(item)
    }
    item.generation = item.generation >= MAX_GENERATION - 1 ? 1 : item.generation + 1
    // Multiplication, not a shift: the generation lies above 32 bits.
    item.handle = item.generation * 2 ** SLOT_BITS + item.slot * 2
    return item
  }

  /** The object that a handle stands for, or undefined when the handle is stale. */
  find(handle: ExchangeHandle): T | undefined {
    const item = this.#items[(handle & HANDLE_SLOT_MASK) >>> 1]
    return item !== undefined && item.handle === handle && handle !== 0 ? item : undefined
  }

  release(item: T): void {
    if (item.handle === 0) return
    item.handle = 0
    this.#free.push(item)
  }

  /** Every object in use. */
  *live(): IterableIterator<T> {
    for (const item of this.#items) if (item.handle !== 0) yield item
  }
}
