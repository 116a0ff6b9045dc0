/**
 * Expressions of policies: text to something that runs, with every error at its place in the file.
 *
 * Source: traffic-policy.md §2.2, §3, §11; errors are ERR_NGROK_2200 (§8.3).
 */
import type { Diagnostics } from '../config/diagnostic.ts'
import type { TextSource } from '../config/node.ts'
import { checkExpression, pathOf } from './check.ts'
import type { Checked } from './check.ts'
import { compileChecked } from './compile.ts'
import type { Evaluate } from './compile.ts'
import type { ExpressionEnvironment } from './environment.ts'
import { EvaluationError } from './evaluation-error.ts'
import { Frame } from './frame.ts'
import { needsOf, type Needs } from './need.ts'
import { parseExpression } from './parser.ts'
import { PolicyScope } from './policy-scope.ts'
import { type Settled, settledOf } from './settled.ts'
import type { VariableSource } from './source.ts'
import { ExpressionProblem } from './syntax.ts'
import { typeText } from './type.ts'
import type { CelValue } from './value.ts'

/** A compiled expression; immutable, may be evaluated at any time and from anywhere. */
export interface Expression {
  readonly source: TextSource
  /** The static type as CEL writes it: `bool`, `list(string)`, `dyn`. */
  readonly type: string
  /** What must hold of a request for this to be true. */
  readonly needs: Needs
  /** Whether its value is the same in both phases of an exchange. */
  readonly settled: Settled
  /** Throws EvaluationError. */
  evaluate(source: VariableSource): CelValue
  /** The same, but a lone hybrid variable (§6.1) keeps its fields. Throws EvaluationError. */
  evaluateWhole(source: VariableSource): CelValue
  /** True only for CEL's `true`; any other value is false. Throws EvaluationError. */
  test(source: VariableSource): boolean
}

/** Where the errors of a text go, and under which code. */
export interface ProblemSink {
  readonly diagnostics: Diagnostics
  readonly code: string
  /** The text is an interpolation: `\"` may stand for a quote. */
  readonly escapedQuotes?: boolean
}

class CompiledExpression implements Expression {
  readonly source: TextSource
  readonly type: string
  readonly needs: Needs
  readonly settled: Settled
  readonly #run: Evaluate
  readonly #runWhole: Evaluate
  readonly #slotCount: number

  constructor(
    source: TextSource,
    type: string,
    needs: Needs,
    settled: Settled,
    run: Evaluate,
    runWhole: Evaluate,
    slotCount: number,
  ) {
    this.source = source
    this.type = type
    this.needs = needs
    this.settled = settled
    this.#run = run
    this.#runWhole = runWhole
    this.#slotCount = slotCount
  }

  evaluate(source: VariableSource): CelValue {
    try {
      return this.#run(new Frame(source, this.#slotCount))
    } catch (error) {
      throw asEvaluationError(error)
    }
  }

  evaluateWhole(source: VariableSource): CelValue {
    try {
      return this.#runWhole(new Frame(source, this.#slotCount))
    } catch (error) {
      throw asEvaluationError(error)
    }
  }

  test(source: VariableSource): boolean {
    return this.evaluate(source) === true
  }
}

/** JavaScript's own limits (a text too long, a stack too deep) are limits of the expression, not faults of the gateway. */
function asEvaluationError(error: unknown): unknown {
  return error instanceof RangeError ? new EvaluationError(`limit exceeded: ${error.message}`) : error
}

/**
 * Compiles an expression. Reports every error with its place (ERR_NGROK_2200) and returns undefined when there is one;
 * warnings (header values joined, spellings of the old format) do not stop it.
 */
export function compileExpression(
  text: TextSource,
  environment: ExpressionEnvironment,
  diagnostics: Diagnostics,
): Expression | undefined {
  return compileText(text, environment, { diagnostics, code: 'ERR_NGROK_2200' })
}

/** The same under another code, for templates. */
export function compileText(
  text: TextSource,
  environment: ExpressionEnvironment,
  sink: ProblemSink,
): Expression | undefined {
  const scope = scopeOf(environment)
  try {
    const root = parseExpression(text.text, {
      overrides: environment.overrides,
      escapedQuotes: sink.escapedQuotes === true,
    })
    const checked = checkExpression(root, scope, environment.overrides)
    if (reportProblems(checked, text, sink)) return undefined
    const program = compileChecked(checked)
    const run = program.evaluate
    const path = pathOf(root)
    const read = path === undefined ? undefined : scope.whole(path.path)
    const runWhole: Evaluate = read === undefined ? run : (frame) => read(frame) ?? run(frame)
    const type = typeText(checked.typeOf(root))
    const settled = settledOf(root, checked)
    return new CompiledExpression(text, type, needsOf(root), settled, run, runWhole, program.slotCount)
  } catch (error) {
    if (!(error instanceof ExpressionProblem)) throw error
    sink.diagnostics.error(sink.code, error.message, spanOf(text, error.start, error.end), error.hint)
    return undefined
  }
}

function reportProblems(checked: Checked, text: TextSource, sink: ProblemSink): boolean {
  let failed = false
  for (const problem of checked.problems) {
    const span = spanOf(text, problem.start, problem.end)
    if (problem.severity === 'error') {
      failed = true
      sink.diagnostics.error(sink.code, problem.message, span, problem.hint)
    } else {
      sink.diagnostics.warning('EXPRESSION_STYLE', problem.message, span, problem.hint)
    }
  }
  return failed
}

function spanOf(text: TextSource, start: number, end: number): ReturnType<TextSource['spanAt']> {
  return text.spanAt(start, Math.max(1, end - start))
}

const scopes = new WeakMap<ExpressionEnvironment, PolicyScope>()

function scopeOf(environment: ExpressionEnvironment): PolicyScope {
  let scope = scopes.get(environment)
  if (scope === undefined) {
    scope = new PolicyScope(environment)
    scopes.set(environment, scope)
  }
  return scope
}
