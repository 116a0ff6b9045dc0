/** Status codes and their reason phrases. Source: RFC 9110 §15, RFC 6585. */
import { STATUS_CODES } from 'node:http'

/** The registered phrase, or `Unknown`. */
export function reasonPhrase(status: number): string {
  return STATUS_CODES[status] ?? 'Unknown'
}

/** `HTTP/1.1 200 OK\r\n`. */
export function statusLine(status: number): string {
  return `HTTP/1.1 ${status} ${reasonPhrase(status)}\r\n`
}

/** No body may follow, whatever the headers say (RFC 9110 §6.4.1). */
export function isBodiless(status: number): boolean {
  return status < 200 || status === 204 || status === 304
}
