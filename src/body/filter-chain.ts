/** Body filters one behind the other, as one; and a whole body through a filter. */
import type { BodyFilter, FilterSink } from '../listener/front-end.ts'

/** The first filter gets the upstream's bytes, the last one feeds the client. There must be one at least. */
export function chainFilters(filters: readonly BodyFilter[]): BodyFilter {
  const [only] = filters
  if (only === undefined) throw new Error('a chain without filters')
  return filters.length === 1 ? only : new FilterChain(filters)
}

class FilterChain implements BodyFilter {
  readonly #filters: readonly BodyFilter[]

  constructor(filters: readonly BodyFilter[]) {
    this.#filters = filters
  }

  attach(sink: FilterSink): void {
    for (const [place, filter] of this.#filters.entries()) {
      const previous = this.#filters[place - 1]
      const next = this.#filters[place + 1]
      filter.attach({
        output: (chunk) => {
          if (next === undefined) sink.output(chunk)
          else if (!next.write(chunk)) filter.pause()
        },
        ready: () => (previous === undefined ? sink.ready() : previous.resume()),
        finished: () => (next === undefined ? sink.finished() : next.end()),
        broken: (detail) => {
          this.close()
          sink.broken(detail)
        },
      })
    }
  }

  write(chunk: Uint8Array): boolean {
    return this.#filters[0]!.write(chunk)
  }

  end(): void {
    this.#filters[0]!.end()
  }

  pause(): void {
    this.#filters.at(-1)!.pause()
  }

  resume(): void {
    this.#filters.at(-1)!.resume()
  }

  close(): void {
    for (const filter of this.#filters) filter.close()
  }
}

/** What becomes of a whole body. Rejects with what `broken` says. */
export function throughFilter(filter: BodyFilter, bytes: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const pieces: Uint8Array[] = []
    filter.attach({
      output: (chunk) => void pieces.push(chunk),
      ready: () => {},
      finished: () => resolve(Buffer.concat(pieces)),
      broken: (detail) => reject(new Error(detail)),
    })
    filter.write(bytes)
    filter.end()
  })
}
