/** Values as CEL would write them, for tables of expected results. */
import { durationText, timestampText } from '../../../src/expression/convert.ts'
import { EvaluationError } from '../../../src/expression/evaluation-error.ts'
import type { Expression } from '../../../src/expression/expression.ts'
import type { VariableSource } from '../../../src/expression/source.ts'
import {
  CelDuration,
  CelMap,
  CelOptional,
  CelTimestamp,
  CelType,
  CelUint,
  HybridString,
  isList,
} from '../../../src/expression/value.ts'
import type { CelValue } from '../../../src/expression/value.ts'

export function shown(value: CelValue): string {
  if (typeof value === 'number') return Number.isInteger(value) ? `${value}.0` : String(value)
  if (typeof value === 'string') return `'${value}'`
  if (value === null || typeof value === 'bigint' || typeof value === 'boolean') return String(value)
  if (value instanceof CelUint) return `${value.value}u`
  if (value instanceof Uint8Array) return `b'${Buffer.from(value).toString('latin1')}'`
  if (value instanceof CelTimestamp) return `timestamp(${timestampText(value)})`
  if (value instanceof CelDuration) return `duration(${durationText(value)})`
  if (value instanceof CelType) return `type(${value.name})`
  if (value instanceof HybridString) return `hybrid('${value.text}')`
  if (value instanceof CelOptional) return value.value === undefined ? 'none' : `some(${shown(value.value)})`
  if (isList(value)) return `[${value.map((item) => shown(item)).join(', ')}]`
  if (value instanceof CelMap)
    return `{${value
      .keys()
      .map((key) => `${shown(key)}: ${shown(value.get(key)!)}`)
      .join(', ')}}`
  throw new Error('not a CEL value')
}

/** The shown value, or `error: …`. */
export function outcome(expression: Expression, source: VariableSource): string {
  try {
    return shown(expression.evaluate(source))
  } catch (error) {
    if (error instanceof EvaluationError) return `error: ${error.message}`
    throw error
  }
}
