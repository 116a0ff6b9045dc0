/**
 * The sum over all processes, made in the primary: one addition per number, label texts are looked at once per series.
 *
 * Counters and histograms of a process that ended stay in the sum; its gauges go with it.
 * Source: operations.md O-46, O-49, O-50.
 */
import { FAMILIES, FAMILY_KEYS, MAX_SERIES, type FamilyKey } from './families.ts'
import type { MetricsReport } from './metrics.ts'
import { SeriesTable, seriesWidth, type SeriesDefinition } from './series-table.ts'

interface Session {
  /** For each series: start in the session's numbers, start in ours, width, whether it is a gauge. */
  readonly series: { readonly from: number; readonly to: number; readonly width: number; readonly gauge: boolean }[]
  nextStart: number
  values: Float64Array
}

/** What the exposition renders. */
export interface SeriesSums {
  readonly definitions: readonly SeriesDefinition[]
  /** Where each series' numbers start in `values`. */
  readonly starts: readonly number[]
  readonly values: Float64Array
}

export class MetricsAggregate {
  readonly #table: SeriesTable
  readonly #index = new Map<string, number>()
  readonly #sessions = new Map<string, Session>()
  /** What ended processes had counted, by place in the table. */
  #retired = new Float64Array(0)

  constructor(maxSeries: number = MAX_SERIES) {
    this.#table = new SeriesTable(maxSeries)
    // the table's own counter of lost series is the same as the processes'
    this.#index.set('metricsDropped', 0)
  }

  /** How many series of this session are known: what the next `collect` asks from. */
  known(session: string): number {
    return this.#sessions.get(session)?.series.length ?? 0
  }

  /** Takes a report. One that does not follow on what is known is ignored: the next one will. */
  update(name: string, report: MetricsReport): void {
    let session = this.#sessions.get(name)
    if (session === undefined) {
      session = { series: [], nextStart: 0, values: report.values }
      this.#sessions.set(name, session)
    }
    if (report.from > session.series.length) return
    // a late answer may repeat what another has brought meanwhile
    for (const definition of report.definitions.slice(session.series.length - report.from))
      this.#learn(session, definition)
    session.values = report.values
  }

  /** The process has ended: what it counted stays. */
  retire(name: string): void {
    const session = this.#sessions.get(name)
    if (session === undefined) return
    this.#sessions.delete(name)
    if (this.#retired.length < this.#table.used) {
      const grown = new Float64Array(this.#table.values.length)
      grown.set(this.#retired)
      this.#retired = grown
    }
    add(session, this.#retired, false)
  }

  /** Every series with its sum over the processes. */
  sums(): SeriesSums {
    const sums = new Float64Array(this.#table.used)
    sums.set(this.#retired.subarray(0, sums.length))
    // what this table itself had to put under __other__, beside what the processes report in the same series
    sums[0]! += this.#table.values[0]! // the first series of every table is that counter
    for (const session of this.#sessions.values()) add(session, sums, true)
    return { definitions: this.#table.definitions, starts: this.#table.starts, values: sums }
  }

  #learn(session: Session, definition: SeriesDefinition): void {
    const [familyIndex, ...labels] = definition
    const key = FAMILY_KEYS[familyIndex]
    // all processes run the same program, so the index is known
    if (key === undefined) throw new Error(`unknown metric family ${familyIndex}`)
    const width = seriesWidth(key)
    session.series.push({
      from: session.nextStart,
      to: this.#place(key, labels),
      width,
      gauge: FAMILIES[key].type === 'gauge',
    })
    session.nextStart += width
  }

  #place(key: FamilyKey, labels: readonly string[]): number {
    const name = [key, ...labels].join('\u0000')
    let place = this.#index.get(name)
    if (place === undefined) {
      const remember = !this.#table.isFull
      place = this.#table.add(key, labels)
      if (remember) this.#index.set(name, place)
    }
    return place
  }
}

function add(session: Session, sum: Float64Array, gauges: boolean): void {
  const { series, values } = session
  for (const { from, to, width, gauge } of series) {
    if (gauge && !gauges) continue
    // a report holds the numbers of every series it defines
    for (let at = 0; at < width; at++) sum[to + at]! += values[from + at] ?? 0
  }
}
