/** A request as somebody wrote it down. Texts are latin1, one character per byte. */
import type { MessageFile } from '../waf/message-file.ts'

export interface WrittenRequest {
  readonly method: string
  /** In origin form. */
  readonly target: string
  readonly fields: readonly (readonly [name: string, value: string])[]
  readonly body: Uint8Array
}

/** From a saved message; a target in absolute form names the host where no field does (RFC 9112 §3.2.2). */
export function requestFromFile({ method, target, head, body }: MessageFile): WrittenRequest {
  const { origin, host } = splitTarget(target)
  const fields = fieldsOfHead(head)
  if (host !== undefined && !fields.some(([name]) => name === 'host')) fields.unshift(['host', host])
  return { method, target: origin, fields, body }
}

/** The field lines of a head, in order. */
export function fieldsOfHead(head: string): [name: string, value: string][] {
  return head
    .split('\r\n')
    .slice(1)
    .filter((line) => line !== '')
    .map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    })
}

/** `http://host/path` as host and origin form. */
export function splitTarget(target: string): { origin: string; host: string | undefined } {
  const absolute = /^https?:\/\/([^/?#]+)([^#]*)/i.exec(target)
  if (absolute === null) return { origin: target, host: undefined }
  const [, host, rest = ''] = absolute
  return { origin: rest.startsWith('/') ? rest : `/${rest}`, host }
}
