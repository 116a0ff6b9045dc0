/**
 * Bytes of a body as text and back, without losing one: UTF-8 where they are UTF-8, else one character per byte. What is
 * put into such a text is UTF-8 in either case.
 */
import { isUtf8 } from 'node:buffer'

export interface BodyText {
  readonly text: string
  readonly isUtf8: boolean
}

export function bodyText(bytes: Uint8Array): BodyText {
  const utf8 = isUtf8(bytes)
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return { text: buffer.toString(utf8 ? 'utf8' : 'latin1'), isUtf8: utf8 }
}

/** Text that goes into a text of this kind. */
export function insertable(text: string, isUtf8Text: boolean): string {
  return isUtf8Text ? text : Buffer.from(text, 'utf8').toString('latin1')
}

export function bodyBytes({ text, isUtf8: utf8 }: BodyText): Uint8Array {
  return Buffer.from(text, utf8 ? 'utf8' : 'latin1')
}
