/**
 * Schemas for everything that is configured: one definition checks a document (every error, each with its place),
 * gives the TypeScript type of what comes out, and writes the JSON Schema.
 *
 * Two flavours differ only in their codes: `settingsKit` (gateway.yaml, manifests) and `policyKit` (`ERR_NGROK_…`,
 * traffic-policy.md §8.3). The functions exported by name are those of `settingsKit`; `policyKit.object` and so on
 * are the same with policy codes.
 *
 * Null (`key:` with nothing behind it) means "not given" for optional and defaulted fields.
 */
import { Diagnostics, renderDiagnostic } from './diagnostic.ts'
import { textSource, type ConfigNode, type MapNode, type ScalarNode, type TextSource } from './node.ts'
import { SourceFile, type Span } from './source.ts'
import { nearest } from './spelling.ts'
import {
  BYTE_SIZE_PATTERN,
  DURATION_PATTERN,
  formatByteSize,
  formatDurationMs,
  parseByteSize,
  parseDurationMs,
} from './units.ts'

/** What `parse` answers when it reported at least one error. */
export const INVALID: unique symbol = Symbol('invalid')

export type JsonSchema = { readonly [key: string]: unknown }

/** How one value is checked. `parse` reports every error it finds and then answers INVALID; it never throws. */
export interface Schema<T> {
  /** `label` names the value in messages (the key, as a rule); it defaults to `the value`. */
  parse(node: ConfigNode, diagnostics: Diagnostics, label?: string): T | typeof INVALID
  jsonSchema(): JsonSchema
  /** The value as one would write it in a file (JSON); absent when it is written as it is. */
  write?(value: T): unknown
  /** A null value is this schema's business; otherwise null is refused, or means "not given" in an optional field. */
  readonly acceptsNull?: boolean
  readonly description?: string
  /** What the number means, for reference pages: `duration`, `size`, `milliseconds`, … */
  readonly unit?: string
  /** What an object schema consists of, for reference pages. */
  readonly fields?: Fields
  /** What a list consists of, likewise. */
  readonly item?: Schema<unknown>
}

/** A mapping with named keys, which can also be read as far as it is right. */
export interface ObjectSchema<T> extends Schema<T> {
  /**
   * Like parse, but what is wrong in one field does not hide the others: invalid fields have the value of a missing
   * key, and invalid required ones are undefined. For loads that go on to find the errors of what hangs below.
   */
  parseParts(
    node: ConfigNode,
    diagnostics: Diagnostics,
    label?: string,
  ): { readonly value: Partial<T>; readonly valid: boolean }
}

/** A key of an object with what happens when it is missing. A bare schema in `Fields` is a required key. */
export interface Field<T> {
  readonly schema: Schema<unknown>
  readonly presence: 'required' | 'optional' | 'default'
  /** The value of a missing key; for `optional` it is undefined. Called anew each time. */
  readonly absent: (() => T) | undefined
  /** `absent()` as it would stand in the file. */
  readonly written?: unknown
  /** Marks the type; never set. */
  readonly type?: T
}

export type Fields = { readonly [key: string]: Schema<any> | Field<any> } // any: fields of every type stand here
export type Infer<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T> ? T : F[K] extends Schema<infer T> ? T : never
}
export type InferSchema<S> = S extends Schema<infer T> ? T : never

/** The codes of a flavour, by what is wrong. */
export interface Codes {
  readonly unknownKey: string
  readonly missingKey: string
  /** A mapping where a text was expected, and the like. */
  readonly wrongType: string
  readonly invalidValue: string
  readonly outOfRange: string
  readonly tooLong: string
  readonly tooShort: string
  readonly tooMany: string
  readonly empty: string
  readonly duplicate: string
  readonly notOneOf: string
  readonly notADuration: string
  readonly durationTooLong: string
  readonly keyTwice: string
}

const settingsCodes: Codes = {
  unknownKey: 'UNKNOWN_KEY',
  missingKey: 'MISSING_KEY',
  wrongType: 'WRONG_TYPE',
  invalidValue: 'INVALID_VALUE',
  outOfRange: 'OUT_OF_RANGE',
  tooLong: 'TOO_LONG',
  tooShort: 'TOO_SHORT',
  tooMany: 'TOO_MANY',
  empty: 'EMPTY',
  duplicate: 'DUPLICATE_VALUE',
  notOneOf: 'NOT_ONE_OF',
  notADuration: 'INVALID_DURATION',
  durationTooLong: 'OUT_OF_RANGE',
  keyTwice: 'KEY_GIVEN_TWICE',
}

const policyCodes: Codes = {
  unknownKey: 'ERR_NGROK_2203',
  missingKey: 'ERR_NGROK_2234',
  wrongType: 'ERR_NGROK_2203',
  invalidValue: 'ERR_NGROK_2204',
  outOfRange: 'ERR_NGROK_2215',
  tooLong: 'ERR_NGROK_2221',
  tooShort: 'ERR_NGROK_2237',
  tooMany: 'ERR_NGROK_2218',
  empty: 'ERR_NGROK_2223',
  duplicate: 'ERR_NGROK_2231',
  notOneOf: 'ERR_NGROK_2222',
  notADuration: 'ERR_NGROK_2228',
  durationTooLong: 'ERR_NGROK_2225',
  keyTwice: 'ERR_NGROK_2203',
}

/** Options of `object`. */
export interface ObjectOptions {
  /** Instead of the flavour's code for unknown keys and for a value that is no mapping. */
  readonly code?: string
  /** A key that people write here by mistake → what they should do. */
  readonly hints?: Readonly<Record<string, string>>
  /** An empty value is an empty mapping. */
  readonly allowNull?: boolean
  /** Another spelling → the key it stands for. Giving both is an error. */
  readonly aliases?: Readonly<Record<string, string>>
  /** Instead of the flavour's code for a key given in two spellings. */
  readonly twiceCode?: string
  /** Keys that are not named are passed over (objects of other programs); otherwise each is an error. */
  readonly open?: boolean
}

/** What `transform` tells about the value it changes. */
export interface TransformContext {
  readonly node: ConfigNode
  readonly diagnostics: Diagnostics
  readonly label: string
}

/** A value with its place, for errors that are found later. */
export interface Located<T> {
  readonly value: T
  readonly span: Span
  readonly node: ConfigNode
}

const DEFAULT_LABEL = 'the value'

// ---------------------------------------------------------------------------------------------------------------------
// Presence and wrapping: the same in every flavour

/** A key that must be given (a bare schema means the same). */
export function required<T>(schema: Schema<T>): Field<T> {
  return { schema, presence: 'required', absent: undefined }
}

/** A key that may be missing; then the value is undefined. */
export function optional<T>(schema: Schema<T>): Field<T | undefined> {
  return { schema, presence: 'optional', absent: () => undefined }
}

/** A key that may be missing; then `value` (in our units) stands. */
export function withDefault<T, const D extends T>(schema: Schema<T>, value: D): Field<T> {
  const written = schema.write === undefined ? value : schema.write(value)
  return { schema, presence: 'default', absent: () => value, written }
}

/** A mapping that may be missing: then every field of it has its default. All its fields must have one. */
export function section<T>(schema: Schema<T>): Field<T> {
  function absent(): T {
    const diagnostics = new Diagnostics()
    const value = schema.parse(EMPTY_MAP, diagnostics)
    if (value === INVALID)
      throw new Error(
        `a section without a value must be valid: ${diagnostics.all.map((it) => renderDiagnostic(it)).join('; ')}`,
      )
    return value
  }
  return { schema, presence: 'default', absent }
}

/** Adds the one-line meaning (and unit) that goes into the JSON Schema and the reference. */
export function described<T>(schema: Schema<T>, description: string, unit?: string): Schema<T>
export function described<T>(field: Field<T>, description: string, unit?: string): Field<T>
export function described<T>(it: Schema<T> | Field<T>, description: string, unit?: string): Schema<T> | Field<T> {
  if ('presence' in it) return { ...it, schema: described(it.schema, description, unit) }
  const jsonSchema = (): JsonSchema => ({ ...it.jsonSchema(), description })
  return { ...it, description, ...(unit !== undefined && { unit }), jsonSchema }
}

/** Checks further and changes the value. `change` reports what is wrong and answers INVALID. `write` undoes the change, for defaults. */
export function transform<T, U>(
  schema: Schema<T>,
  change: (value: T, context: TransformContext) => U | typeof INVALID,
  options: { readonly jsonSchema?: () => JsonSchema; readonly write?: (value: U) => unknown } = {},
): Schema<U> {
  return {
    parse(node, diagnostics, label = DEFAULT_LABEL) {
      const value = schema.parse(node, diagnostics, label)
      return value === INVALID ? INVALID : change(value, { node, diagnostics, label })
    },
    jsonSchema: options.jsonSchema ?? (() => schema.jsonSchema()),
    ...(options.write && { write: options.write }),
    ...(schema.acceptsNull !== undefined && { acceptsNull: schema.acceptsNull }),
    ...(schema.description !== undefined && { description: schema.description }),
    ...(schema.unit !== undefined && { unit: schema.unit }),
    ...(schema.fields !== undefined && { fields: schema.fields }),
    ...(schema.item !== undefined && { item: schema.item }),
  }
}

/** The value together with its place. */
export function located<T>(schema: Schema<T>): Schema<Located<T>> {
  return {
    ...transform(schema, (value, { node }) => ({ value, span: node.span, node })),
    write: (it) => (schema.write === undefined ? it.value : schema.write(it.value)),
  }
}

/** `located`, with a value for a missing key; its span is then in no file (path `''`). */
export function locatedDefault<T, const D extends T>(schema: Schema<T>, value: D): Field<Located<T>> {
  const written = schema.write === undefined ? value : schema.write(value)
  return {
    schema: located(schema),
    presence: 'default',
    absent: () => ({ value, span: NO_SPAN, node: EMPTY_MAP }),
    written,
  }
}

/** Keeps the value as it is and leaves its check to whoever reads it; schema and reference are those of `schema`. */
export function deferred(schema: Schema<unknown>): Schema<ConfigNode> {
  return { ...schema, parse: (node) => node, write: (node) => node, acceptsNull: true }
}

/** The schema and presence of an entry of `Fields`. */
export function fieldOf(entry: Schema<unknown> | Field<unknown>): Field<unknown> {
  return 'presence' in entry ? entry : required(entry)
}

// ---------------------------------------------------------------------------------------------------------------------
// The kit

/** Options of a text. `pattern` is matched against the whole decoded text as the expression says (anchor it). */
export interface StringOptions {
  readonly pattern?: RegExp
  /** UTF-16 units. */
  readonly minLength?: number
  readonly maxLength?: number
  readonly code?: string
  /** Said instead of `must match /…/`: `must be a host name`. */
  readonly must?: string
}

/** Options of a number; both ends belong to the range. */
export interface NumberOptions {
  readonly min?: number
  readonly max?: number
  readonly code?: string
}

/** Options of a duration; both ends belong to the range. */
export interface DurationOptions {
  readonly minMs?: number
  readonly maxMs?: number
  readonly multipleOfMs?: number
  readonly code?: string
}

/** Options of a list. `unique` compares values (texts by their text). */
export interface ListOptions {
  readonly min?: number
  readonly max?: number
  readonly unique?: boolean
  readonly code?: string
}

/** Options of a mapping with free keys. */
export interface MapOptions {
  readonly keyPattern?: RegExp
  readonly min?: number
  readonly max?: number
  readonly code?: string
}

/** All combinators of one flavour. */
export interface SchemaKit {
  /** A mapping with named keys; the result has the keys as written. Unknown keys are errors with the nearest known one. */
  object<const F extends Fields>(fields: F, options?: ObjectOptions): ObjectSchema<Infer<F>>
  /** A text; other scalars are taken as they are written (traffic-policy.md §1.4). */
  string(options?: StringOptions): Schema<string>
  /** A whole number within ±2^53. */
  integer(options?: NumberOptions): Schema<number>
  number(options?: NumberOptions): Schema<number>
  /** `true` or `false`. */
  boolean(): Schema<boolean>
  /** One of the words or numbers. */
  enumeration<const V extends string | number>(values: readonly V[], options?: { readonly code?: string }): Schema<V>
  /** Go duration text → milliseconds. Never negative unless `minMs` says so. */
  durationMs(options?: DurationOptions): Schema<number>
  /** `64KiB`, `10MiB`, `512B` or a plain integer → bytes. */
  byteSize(options?: { readonly min?: number; readonly max?: number; readonly code?: string }): Schema<number>
  list<T>(item: Schema<T>, options?: ListOptions): Schema<readonly T[]>
  /** A mapping with free keys, in the order of the file. */
  mapOf<T>(value: Schema<T>, options?: MapOptions): Schema<ReadonlyMap<string, T>>
  /** A text with `${…}`, compiled later; other scalars are taken as written. */
  text(options?: { readonly code?: string }): Schema<TextSource>
  /** Raw CEL; other scalars (`true`) are taken as written. */
  expressionText(options?: { readonly code?: string }): Schema<TextSource>
  /** Anything, kept as it is. */
  anyNode(): Schema<ConfigNode>
  /** Chooses by the kind of the value: one text or a list of them, say. */
  byKind<S = never, L = never, M = never>(
    kinds: { readonly scalar?: Schema<S>; readonly list?: Schema<L>; readonly map?: Schema<M> },
    options?: { readonly code?: string },
  ): Schema<S | L | M>
}

/** Makes the combinators of a flavour. */
export function schemaKit(codes: Codes): SchemaKit {
  function countOf(
    count: number,
    unit: string,
    options: { readonly min?: number; readonly max?: number; readonly code?: string },
    node: ConfigNode,
    diagnostics: Diagnostics,
    label: string,
  ): boolean {
    const { min = 0, max = Infinity, code } = options
    if (count < min) {
      const text = count === 0 && min === 1 ? `${label} must not be empty` : `${label} needs at least ${min} ${unit}`
      diagnostics.error(code ?? (count === 0 ? codes.empty : codes.outOfRange), text, node.span)
      return false
    }
    if (count > max) {
      diagnostics.error(code ?? codes.tooMany, `${label} has ${count} ${unit}, at most ${max} are allowed`, node.span)
      return false
    }
    return true
  }

  function inRange(
    value: number,
    options: NumberOptions,
    show: (value: number) => string,
    node: ScalarNode,
    diagnostics: Diagnostics,
    label: string,
    aboveCode: string,
  ): boolean {
    const { min = -Infinity, max = Infinity, code } = options
    if (value >= min && value <= max) return true
    const range =
      max === Infinity
        ? `at least ${show(min)}`
        : min === -Infinity
          ? `at most ${show(max)}`
          : `${show(min)} to ${show(max)}`
    const chosen = code ?? (value > max ? aboveCode : codes.outOfRange)
    diagnostics.error(chosen, `${label} must be ${range}, not ${node.text}`, node.span)
    return false
  }

  function numeric(kind: 'integer' | 'number', options: NumberOptions): Schema<number> {
    const expected = kind === 'integer' ? 'a whole number' : 'a number'
    return {
      parse(node, diagnostics, label = DEFAULT_LABEL) {
        const scalar = scalarOf(node, diagnostics, label, expected, options.code ?? codes.wrongType)
        if (scalar === undefined) return INVALID
        const value = typeof scalar.value === 'bigint' ? Number(scalar.value) : scalar.value
        const fits =
          typeof value === 'number' && (kind === 'integer' ? Number.isSafeInteger(value) : !Number.isNaN(value))
        if (!fits) {
          const hint =
            typeof value === 'string' && /^[0-9]+$/.test(value) ? 'write the number without quotes' : undefined
          diagnostics.error(
            options.code ?? codes.wrongType,
            `${label} must be ${expected}, not ${quoted(scalar)}`,
            node.span,
            hint,
          )
          return INVALID
        }
        return inRange(value, options, String, scalar, diagnostics, label, codes.outOfRange) ? value : INVALID
      },
      jsonSchema: () => ({
        type: kind,
        ...(options.min !== undefined && { minimum: options.min }),
        ...(options.max !== undefined && { maximum: options.max }),
      }),
    }
  }

  return {
    object(fields, options = {}) {
      return objectSchema(fields, options, codes)
    },

    string(options = {}) {
      const { pattern, minLength = 0, maxLength = Infinity, code, must } = options
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          const scalar = scalarOf(node, diagnostics, label, 'a text', code ?? codes.wrongType)
          if (scalar === undefined) return INVALID
          const value = scalar.text
          if (value.length < minLength) {
            const empty = value.length === 0 && minLength === 1
            const text = empty ? `${label} must not be empty` : `${label} must have at least ${minLength} characters`
            diagnostics.error(code ?? (empty ? codes.empty : codes.tooShort), text, node.span)
            return INVALID
          }
          if (value.length > maxLength) {
            const text = `${label} must have at most ${maxLength} characters, not ${value.length}`
            diagnostics.error(code ?? codes.tooLong, text, node.span)
            return INVALID
          }
          if (pattern !== undefined && !matches(pattern, value)) {
            const text = `${label} ${must ?? `must match ${pattern.source}`}, not ${quoted(scalar)}`
            diagnostics.error(code ?? codes.invalidValue, text, node.span)
            return INVALID
          }
          return value
        },
        jsonSchema: () => ({
          type: SCALAR_TYPES,
          ...(pattern !== undefined && { pattern: pattern.source }),
          ...(minLength > 0 && { minLength }),
          ...(maxLength !== Infinity && { maxLength }),
        }),
      }
    },

    integer: (options = {}) => numeric('integer', options),
    number: (options = {}) => numeric('number', options),

    boolean() {
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          if (node.kind === 'scalar' && typeof node.value === 'boolean') return node.value
          const word = node.kind === 'scalar' ? quoted(node) : kindName(node)
          const hint =
            node.kind === 'scalar' && /^(yes|no|on|off|true|false)$/i.test(node.text)
              ? `write ${/^(yes|on|true)$/i.test(node.text) ? 'true' : 'false'}, in lower case and without quotes`
              : undefined
          diagnostics.error(codes.wrongType, `${label} must be true or false, not ${word}`, node.span, hint)
          return INVALID
        },
        jsonSchema: () => ({ type: 'boolean' }),
      }
    },

    enumeration(values, options = {}) {
      const code = options.code ?? codes.notOneOf
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          const known = values.map(String)
          const scalar = scalarOf(node, diagnostics, label, `one of ${known.join(', ')}`, code)
          if (scalar === undefined) return INVALID
          const found = values.find((value) => value === (typeof value === 'string' ? scalar.text : scalar.value))
          if (found !== undefined) return found
          const near = nearest(scalar.text, known)
          const hint = near === undefined ? undefined : `did you mean ${near}?`
          diagnostics.error(code, `${label} must be one of ${known.join(', ')}, not ${quoted(scalar)}`, node.span, hint)
          return INVALID
        },
        jsonSchema: () => ({ enum: [...values] }),
      }
    },

    durationMs(options = {}) {
      const { minMs = 0, maxMs = Infinity, multipleOfMs, code } = options
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          const scalar = scalarOf(node, diagnostics, label, 'a duration such as 30s', code ?? codes.wrongType)
          if (scalar === undefined) return INVALID
          const ms = parseDurationMs(scalar.text)
          if (ms === undefined) {
            const hint = /^[0-9]+(\.[0-9]+)?$/.test(scalar.text)
              ? `write a unit: ${scalar.text}s, or ${scalar.text}ms`
              : 'units are h, m, s, ms, us and ns; they may follow each other, as in 1h30m'
            diagnostics.error(
              code ?? codes.notADuration,
              `${label} must be a duration, not ${quoted(scalar)}`,
              node.span,
              hint,
            )
            return INVALID
          }
          const range = { min: minMs, max: maxMs, ...(code !== undefined && { code }) }
          if (!inRange(ms, range, formatDurationMs, scalar, diagnostics, label, codes.durationTooLong)) return INVALID
          if (multipleOfMs !== undefined && ms % multipleOfMs !== 0) {
            const text = `${label} must be a multiple of ${formatDurationMs(multipleOfMs)}, not ${scalar.text}`
            diagnostics.error(code ?? codes.invalidValue, text, node.span)
            return INVALID
          }
          return ms
        },
        jsonSchema: () => ({ type: 'string', pattern: DURATION_PATTERN }),
        write: formatDurationMs,
        unit: 'duration',
      }
    },

    byteSize(options = {}) {
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          const scalar = scalarOf(node, diagnostics, label, 'a size such as 64KiB', options.code ?? codes.wrongType)
          if (scalar === undefined) return INVALID
          const bytes = parseByteSize(scalar.text)
          if (bytes === undefined) {
            const hint = 'write 512B, 64KiB, 10MiB, 1GiB or a plain number of bytes; K, KB and MB are not used'
            diagnostics.error(
              options.code ?? codes.invalidValue,
              `${label} must be a size, not ${quoted(scalar)}`,
              node.span,
              hint,
            )
            return INVALID
          }
          return inRange(bytes, options, formatByteSize, scalar, diagnostics, label, codes.outOfRange) ? bytes : INVALID
        },
        jsonSchema: () => ({ type: ['string', 'integer'], pattern: BYTE_SIZE_PATTERN, minimum: 0 }),
        write: (bytes) => (bytes === 0 ? 0 : formatByteSize(bytes)),
        unit: 'size',
      }
    },

    list(item, options = {}) {
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          if (node.kind !== 'list') {
            const hint = node.kind === 'scalar' && node.value !== null ? `write [${node.text}]` : undefined
            const text = `${label} must be a list, not ${kindName(node)}`
            diagnostics.error(options.code ?? codes.wrongType, text, node.span, hint)
            return INVALID
          }
          let valid = countOf(node.items.length, 'entries', options, node, diagnostics, label)
          const seen = new Map<string, Span>()
          const values = []
          for (const [index, child] of node.items.entries()) {
            const value = item.parse(child, diagnostics, `${label}[${index}]`)
            if (value === INVALID) {
              valid = false
              continue
            }
            if (options.unique === true) {
              const key = identity(value)
              const first = seen.get(key)
              if (first !== undefined) {
                const related = { message: 'first given here', span: first }
                const text = `${label} names ${key} twice`
                diagnostics.error(options.code ?? codes.duplicate, text, child.span, undefined, related)
                valid = false
              } else seen.set(key, child.span)
            }
            values.push(value)
          }
          return valid ? values : INVALID
        },
        jsonSchema: () => ({
          type: 'array',
          items: item.jsonSchema(),
          ...(options.min !== undefined && { minItems: options.min }),
          ...(options.max !== undefined && { maxItems: options.max }),
          ...(options.unique === true && { uniqueItems: true }),
        }),
        item,
        ...(item.write && { write: (values) => values.map((value) => item.write?.(value)) }),
      }
    },

    mapOf(value, options = {}) {
      const { keyPattern } = options
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          if (node.kind !== 'map') {
            diagnostics.error(
              options.code ?? codes.wrongType,
              `${label} must be a mapping, not ${kindName(node)}`,
              node.span,
            )
            return INVALID
          }
          let valid = countOf(node.entries.length, 'entries', options, node, diagnostics, label)
          const result = new Map()
          for (const entry of node.entries) {
            if (keyPattern !== undefined && !matches(keyPattern, entry.key)) {
              const text = `${label} has the key ${JSON.stringify(entry.key)}; keys must match ${keyPattern.source}`
              diagnostics.error(options.code ?? codes.invalidValue, text, entry.keySpan)
              valid = false
            }
            const parsed = value.parse(entry.value, diagnostics, `${label}.${entry.key}`)
            if (parsed === INVALID) valid = false
            else result.set(entry.key, parsed)
          }
          return valid ? result : INVALID
        },
        jsonSchema: () => ({
          type: 'object',
          additionalProperties: value.jsonSchema(),
          ...(keyPattern !== undefined && { propertyNames: { pattern: keyPattern.source } }),
          ...(options.min !== undefined && { minProperties: options.min }),
          ...(options.max !== undefined && { maxProperties: options.max }),
        }),
        write: (map) =>
          Object.fromEntries([...map].map(([key, it]) => [key, value.write === undefined ? it : value.write(it)])),
      }
    },

    text: (options = {}) => textSchema(options.code ?? codes.wrongType, 'a text', { type: SCALAR_TYPES }),
    expressionText: (options = {}) =>
      textSchema(options.code ?? codes.wrongType, 'an expression', { type: ['string', 'boolean'] }),

    anyNode() {
      return { parse: (node) => node, jsonSchema: () => ({}), acceptsNull: true }
    },

    byKind(kinds, options = {}) {
      const names = [kinds.scalar && 'a text', kinds.list && 'a list', kinds.map && 'a mapping'].filter(Boolean)
      return {
        parse(node, diagnostics, label = DEFAULT_LABEL) {
          const chosen = kinds[node.kind]
          if (chosen !== undefined && !(node.kind === 'scalar' && node.value === null && chosen.acceptsNull !== true)) {
            return chosen.parse(node, diagnostics, label)
          }
          const text = `${label} must be ${names.join(' or ')}, not ${kindName(node)}`
          diagnostics.error(options.code ?? codes.wrongType, text, node.span)
          return INVALID
        },
        jsonSchema: () => ({
          anyOf: [kinds.scalar, kinds.list, kinds.map].flatMap((schema) => (schema ? [schema.jsonSchema()] : [])),
        }),
      }
    },
  }
}

/** For gateway.yaml and manifests: codes in words. */
export const settingsKit: SchemaKit = schemaKit(settingsCodes)
/** For policies: `ERR_NGROK_…` codes. */
export const policyKit: SchemaKit = schemaKit(policyCodes)

export const {
  object,
  string,
  integer,
  number,
  boolean,
  enumeration,
  durationMs,
  byteSize,
  list,
  mapOf,
  text,
  expressionText,
  anyNode,
  byKind,
} = settingsKit

// ---------------------------------------------------------------------------------------------------------------------

function objectSchema<F extends Fields>(fields: F, options: ObjectOptions, codes: Codes): ObjectSchema<Infer<F>> {
  const known = Object.entries(fields).map(([key, entry]) => [key, fieldOf(entry)] as const)
  const byKey = new Map(known)
  const aliases = new Map(Object.entries(options.aliases ?? {}))
  const hints = new Map(Object.entries(options.hints ?? {}))

  function unknownKey(key: string, span: Span, label: string, diagnostics: Diagnostics): void {
    const near = nearest(key, [...byKey.keys(), ...aliases.keys()])
    const hint =
      hints.get(key) ??
      (near !== undefined
        ? `did you mean ${near}?`
        : byKey.size === 0
          ? 'no key is allowed here'
          : `known keys are ${[...byKey.keys()].join(', ')}`)
    const where = label === DEFAULT_LABEL ? '' : ` in ${label}`
    diagnostics.error(options.code ?? codes.unknownKey, `unknown key ${key}${where}`, span, hint)
  }

  /** The given entries by their proper key; unknown and doubled keys are reported. */
  function given(node: MapNode, label: string, diagnostics: Diagnostics) {
    const found = new Map<string, MapNode['entries'][number]>()
    let valid = true
    for (const entry of node.entries) {
      const key = byKey.has(entry.key) ? entry.key : aliases.get(entry.key)
      if (key === undefined) {
        if (options.open === true) continue
        unknownKey(entry.key, entry.keySpan, label, diagnostics)
        valid = false
        continue
      }
      const first = found.get(key)
      if (first === undefined) {
        found.set(key, entry)
        continue
      }
      const text = `${first.key} and ${entry.key} mean the same; give one of them`
      diagnostics.error(options.twiceCode ?? codes.keyTwice, text, entry.keySpan, undefined, {
        message: 'the other one',
        span: first.keySpan,
      })
      valid = false
    }
    return { found, valid }
  }

  function parts(node: ConfigNode, diagnostics: Diagnostics, label: string) {
    const isEmpty = isNull(node) && options.allowNull === true
    const map = isEmpty ? EMPTY_MAP : node
    const result: Record<string, unknown> = {}
    let valid = true
    if (map.kind !== 'map') {
      const code = options.code ?? codes.wrongType
      diagnostics.error(code, `${label} must be a mapping, not ${kindName(node)}`, node.span)
      valid = false
    }
    const { found, valid: keysValid } = given(map.kind === 'map' ? map : EMPTY_MAP, label, diagnostics)
    for (const [key, field] of known) {
      const entry = found.get(key)
      const missing = entry === undefined || (isNull(entry.value) && field.schema.acceptsNull !== true)
      if (!missing) {
        const value = field.schema.parse(entry.value, diagnostics, entry.key)
        if (value !== INVALID) {
          result[key] = value
          continue
        }
        valid = false
      } else if (field.absent === undefined && map.kind === 'map') {
        const where = label === DEFAULT_LABEL ? '' : ` in ${label}`
        const text = entry === undefined ? `missing key ${key}${where}` : `${key} has no value`
        diagnostics.error(codes.missingKey, text, entry === undefined ? startOf(node.span) : entry.keySpan)
        valid = false
      }
      result[key] = field.absent?.()
    }
    return { value: result as Partial<Infer<F>>, valid: valid && keysValid }
  }

  return {
    fields,
    parse(node, diagnostics, label = DEFAULT_LABEL) {
      const { value, valid } = parts(node, diagnostics, label)
      // every field has been filled by its schema or its default
      return valid ? (value as Infer<F>) : INVALID
    },
    parseParts: (node, diagnostics, label = DEFAULT_LABEL) => parts(node, diagnostics, label),
    jsonSchema() {
      const properties: Record<string, JsonSchema> = {}
      for (const [key, field] of known) {
        const schema = field.schema.jsonSchema()
        properties[key] = field.written === undefined ? schema : { ...schema, default: field.written }
      }
      for (const [alias, key] of aliases) {
        properties[alias] = {
          ...byKey.get(key)?.schema.jsonSchema(),
          description: `Another spelling of \`${key}\`.`,
          deprecated: true,
        }
      }
      // a required key with another spelling cannot be demanded by name
      const renamed = new Set(aliases.values())
      const needed = known.filter(([key, field]) => field.presence === 'required' && !renamed.has(key))
      return {
        type: options.allowNull === true ? ['object', 'null'] : 'object',
        properties,
        ...(needed.length > 0 && { required: needed.map(([key]) => key) }),
        additionalProperties: options.open === true,
      }
    },
    ...(options.allowNull === true && { acceptsNull: true }),
  }
}

const SCALAR_TYPES = ['string', 'number', 'boolean']

const NO_SPAN: Span = { source: new SourceFile('', ''), start: 0, end: 0 }
const EMPTY_MAP: MapNode = { kind: 'map', entries: [], span: NO_SPAN }

function isNull(node: ConfigNode): boolean {
  return node.kind === 'scalar' && node.value === null
}

/** A missing key is shown at the start of the mapping, not under all of it. */
function startOf(span: Span): Span {
  return { ...span, end: Math.min(span.end, span.start + 1) }
}

function kindName(node: ConfigNode): string {
  if (node.kind === 'map') return 'a mapping'
  if (node.kind === 'list') return 'a list'
  return node.value === null ? 'empty' : quoted(node)
}

/** A scalar for a message: short, on one line. */
function quoted(node: ScalarNode): string {
  const text = node.text.length > 60 ? `${node.text.slice(0, 57)}...` : node.text
  return typeof node.value === 'string' ? JSON.stringify(text) : text
}

function matches(pattern: RegExp, text: string): boolean {
  pattern.lastIndex = 0 // a global or sticky pattern remembers where it stopped
  return pattern.test(text)
}

/** Refuses what is no scalar, and null; the caller has a scalar with a value afterwards. */
function scalarOf(
  node: ConfigNode,
  diagnostics: Diagnostics,
  label: string,
  expected: string,
  code: string,
): ScalarNode | undefined {
  if (node.kind === 'scalar' && node.value !== null) return node
  diagnostics.error(code, `${label} must be ${expected}, not ${kindName(node)}`, node.span)
  return undefined
}

function textSchema(code: string, expected: string, jsonSchema: JsonSchema): Schema<TextSource> {
  return {
    parse(node, diagnostics, label = DEFAULT_LABEL) {
      const scalar = scalarOf(node, diagnostics, label, expected, code)
      return scalar === undefined ? INVALID : textSource(scalar)
    },
    jsonSchema: () => jsonSchema,
    write: (value) => value.text,
  }
}

/** What makes two list entries the same. */
function identity(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'object' && value !== null && 'text' in value && typeof value.text === 'string')
    return value.text
  return JSON.stringify(value, (_, it: unknown) => (typeof it === 'bigint' ? String(it) : it)) ?? String(value)
}
