/** All functions of an environment in one table. Source: traffic-policy.md §7. */
import type { ExpressionEnvironment } from '../environment.ts'
import { cachedPatterns, nativePatterns } from '../pattern.ts'
import { defineAddressValues } from './addresses.ts'
import { defineCollectionFunctions } from './collections.ts'
import { defineConversions } from './conversions.ts'
import { defineEncodingFunctions } from './encodings.ts'
import { defineExchangeFunctions } from './exchange-functions.ts'
import { defineHashFunctions } from './hashes.ts'
import { defineModelFunctions } from './models.ts'
import { defineNumberFunctions } from './numbers.ts'
import { defineOperators } from './operators.ts'
import { defineOptionalFunctions } from './optionals.ts'
import { FunctionTable } from './registry.ts'
import type { FunctionServices } from './registry.ts'
import { defineTextFunctions } from './text.ts'
import { defineTimeFunctions } from './time.ts'

/** The functions that an environment offers. Without overrides: CEL's standard library and its extensions. */
export function functionTable(environment: ExpressionEnvironment): FunctionTable {
  const patterns = cachedPatterns(environment.patterns ?? nativePatterns)
  const services: FunctionServices = {
    phase: environment.phase,
    overrides: environment.overrides,
    now: () => environment.now(),
    random: environment.random ?? Math.random,
    pattern: (text) => patterns.compile(text),
    secret: (vault, name) => environment.secret?.(vault, name),
  }
  const table = new FunctionTable()
  defineOperators(table)
  defineConversions(table)
  defineTextFunctions(table, services)
  defineTimeFunctions(table)
  defineCollectionFunctions(table)
  defineNumberFunctions(table, services)
  defineEncodingFunctions(table, services)
  defineOptionalFunctions(table)
  defineAddressValues(table)
  if (environment.locals?.includes('ai') === true) defineModelFunctions(table, services)
  if (services.overrides) {
    defineHashFunctions(table)
    defineExchangeFunctions(table, services)
  }
  return table
}
