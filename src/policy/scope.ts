/** What an action may change in any phase: variables, results, log entries. An exchange is one; so is a bare connection. */
import type { JsonValue, VariableSource } from '../expression/source.ts'
import type { CelValue } from '../expression/value.ts'

export interface PolicyScope extends VariableSource {
  /** `vars.<name>` for the rest of the phase. */
  setVariable(name: string, value: CelValue): void
  /** `actions.ngrok.<action>`; the last one wins (traffic-policy.md §2.5). */
  setResult(action: string, value: JsonValue): void
  /** One entry of `traffic_policy.logs` (§5.11). */
  appendLog(metadata: JsonValue): void
  /** An interpolation failed at run time in a field where the value then becomes empty (§4): leaves a trace. */
  interpolationFailed(field: string, error: unknown): void
}
