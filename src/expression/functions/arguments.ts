/** Checks of arguments at run time: implementations say what they want and get a typed value or an EvaluationError. */
import { noSuchOverload } from '../evaluation-error.ts'
import { CelMap, CelUint, HybridString, isList, typeNameOf } from '../value.ts'
import type { CelList, CelValue } from '../value.ts'

export function wantText(value: CelValue, name: string): string {
  if (typeof value === 'string') return value
  if (value instanceof HybridString) return value.text
  throw wrong(value, name)
}

export function wantInt(value: CelValue, name: string): bigint {
  if (typeof value === 'bigint') return value
  throw wrong(value, name)
}

export function wantBool(value: CelValue, name: string): boolean {
  if (typeof value === 'boolean') return value
  throw wrong(value, name)
}

export function wantBytes(value: CelValue, name: string): Uint8Array {
  if (value instanceof Uint8Array) return value
  throw wrong(value, name)
}

export function wantList(value: CelValue, name: string): CelList {
  if (isList(value)) return value
  throw wrong(value, name)
}

export function wantMap(value: CelValue, name: string): CelMap {
  if (value instanceof CelMap) return value
  throw wrong(value, name)
}

/** `no such overload: name(type)`. */
export function wrong(value: CelValue, name: string): Error {
  return noSuchOverload(`${name}(${typeNameOf(value)})`)
}

/** int and uint alike. */
export function integerOf(value: CelValue): bigint | undefined {
  if (typeof value === 'bigint') return value
  return value instanceof CelUint ? value.value : undefined
}
