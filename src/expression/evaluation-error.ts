/** Errors that an expression meets while it runs, made cheaply: rules over missing headers throw one per request. */

/** An expression could not be evaluated (missing key, wrong type, overflow, limit …). Carries no stack trace. */
export class EvaluationError extends Error {
  override readonly name = 'EvaluationError'

  constructor(message: string) {
    // Capturing a stack costs more than the rest of the evaluation, and nobody could act on our own frames.
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    super(message)
    Error.stackTraceLimit = limit
  }
}

/** `no such overload: name`, the error for a function or operator that does not take such values. */
export function noSuchOverload(what: string): EvaluationError {
  return new EvaluationError(`no such overload: ${what}`)
}

/** `no such key: 'name'`. */
export function noSuchKey(key: unknown): EvaluationError {
  const text = typeof key === 'string' ? `'${key.length > 64 ? `${key.slice(0, 64)}…` : key}'` : String(key)
  return new EvaluationError(`no such key: ${text}`)
}
