/** What a plain YAML scalar means. Source: YAML 1.2.2 §10.3.2 (core schema). */

/** `null`, `true`, `12`, `0x1f`, `1.5`, `.inf`, or the text itself. Integers beyond 2^53 are bigint. */
export function plainValue(text: string): string | number | bigint | boolean | null {
  if (text.length > 40) return text // nothing below is longer, but for numbers no one can mean
  if (/^(?:~|null|Null|NULL|)$/.test(text)) return null
  if (/^(?:true|True|TRUE)$/.test(text)) return true
  if (/^(?:false|False|FALSE)$/.test(text)) return false
  if (/^[-+]?[0-9]+$/.test(text) || /^0o[0-7]+$/.test(text) || /^0x[0-9a-fA-F]+$/.test(text)) {
    const value = BigInt(text.replace(/^[-+]/, '')) * (text.startsWith('-') ? -1n : 1n)
    const number = Number(value)
    return Number.isSafeInteger(number) ? number : value
  }
  if (/^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/.test(text)) return Number(text)
  if (/^[-+]?\.(?:inf|Inf|INF)$/.test(text)) return text.startsWith('-') ? -Infinity : Infinity
  if (/^\.(?:nan|NaN|NAN)$/.test(text)) return Number.NaN
  return text
}
