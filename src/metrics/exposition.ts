/**
 * Series as text: Prometheus 0.0.4 and OpenMetrics 1.0.
 *
 * Source: operations.md O-46; Prometheus "Exposition formats"; OpenMetrics 1.0 §4 (text format: the family's name has no
 * `_total`, numbers of `le` are floats, the text ends in `# EOF`).
 */
import type { SeriesSums } from './aggregate.ts'
import { FAMILIES, FAMILY_KEYS, LATENCY_BOUNDS_SECONDS, type Family } from './families.ts'

export type ExpositionFormat = 'prometheus' | 'openmetrics'

export const CONTENT_TYPES: Readonly<Record<ExpositionFormat, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

/** The format that an Accept header prefers; Prometheus's when it has no preference (RFC 9110 §12.5.1 quality values). */
export function negotiateFormat(accept: string | undefined): ExpositionFormat {
  let best: ExpositionFormat = 'prometheus'
  let bestQuality = 0
  for (const range of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    const format =
      type === 'application/openmetrics-text'
        ? 'openmetrics'
        : type === 'text/plain' || type === '*/*'
          ? 'prometheus'
          : undefined
    if (format === undefined) continue
    const version = parameters.find((parameter) => parameter.startsWith('version='))?.slice(8)
    if (format === 'openmetrics' && version !== undefined && version !== '1.0.0' && version !== '0.0.1') continue
    const written = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
    const quality = written === undefined ? 1 : Number(written)
    if (quality > bestQuality) {
      best = format
      bestQuality = quality
    }
  }
  return best
}

/** The whole text. Families without a series are left out. */
export function renderExposition(sums: SeriesSums, format: ExpositionFormat): string {
  const byFamily = new Map<number, number[]>()
  sums.definitions.forEach(([family], series) => {
    const list = byFamily.get(family)
    if (list === undefined) byFamily.set(family, [series])
    else list.push(series)
  })
  const bounds = LATENCY_BOUNDS_SECONDS.map((bound) => numberText(bound, format))
  let text = ''
  FAMILY_KEYS.forEach((key, familyIndex) => {
    const series = byFamily.get(familyIndex)
    if (series === undefined) return
    const family: Family = FAMILIES[key]
    const name =
      format === 'openmetrics' && family.type === 'counter' ? family.name.replace(/_total$/, '') : family.name
    text += `# HELP ${name} ${escapeHelp(family.help, format)}\n# TYPE ${name} ${family.type}\n`
    for (const index of series) {
      // every series has a definition and a start
      const [, ...labelValues] = sums.definitions[index]!
      const start = sums.starts[index]!
      const labels = labelPairs(family, labelValues)
      if (family.type === 'histogram') text += histogramLines(family.name, labels, sums.values, start, bounds)
      else
        text += `${family.name}${labels === '' ? '' : `{${labels}}`} ${numberText(sums.values[start]!, 'prometheus')}\n`
    }
  })
  return format === 'openmetrics' ? `${text}# EOF\n` : text
}

function histogramLines(
  name: string,
  labels: string,
  values: Float64Array,
  start: number,
  bounds: readonly string[],
): string {
  const comma = labels === '' ? '' : ','
  const braces = labels === '' ? '' : `{${labels}}`
  let count = 0
  let text = ''
  for (let bucket = 0; bucket <= bounds.length; bucket++) {
    count += values[start + bucket]! // a histogram's run holds every bucket, +Inf and the sum
    text += `${name}_bucket{${labels}${comma}le="${bounds[bucket] ?? '+Inf'}"} ${count}\n`
  }
  const sum = numberText(values[start + bounds.length + 1]!, 'prometheus')
  return `${text}${name}_sum${braces} ${sum}\n${name}_count${braces} ${count}\n`
}

function labelPairs(family: Family, values: readonly string[]): string {
  return family.labels.map((label, index) => `${label}="${escapeLabel(values[index] ?? '')}"`).join(',')
}

function numberText(value: number, format: ExpositionFormat): string {
  if (value === Infinity) return '+Inf'
  if (value === -Infinity) return '-Inf'
  const text = String(value)
  return format === 'openmetrics' && /^-?\d+$/.test(text) ? `${text}.0` : text
}

function escapeLabel(value: string): string {
  if (!/["\\\n]/.test(value)) return value
  return value.replace(/["\\\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`))
}

function escapeHelp(value: string, format: ExpositionFormat): string {
  const text = value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
  return format === 'openmetrics' ? text.replaceAll('"', '\\"') : text
}
