/**
 * The last look at a head before it goes upstream: one that would be two requests for somebody is a fault of ours,
 * never the upstream's.
 *
 * Source: H-123; RFC 9112 §3, §5.
 */

const REQUEST_HEAD =
  /^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e\x80-\xff]+ HTTP\/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*$/

/** Throws when `head` is not a request line and `name: value` lines, each with CRLF. The native pool looks by itself. */
export function checkRequestHead(head: string): void {
  if (!REQUEST_HEAD.test(head)) throw new InvalidHeadError()
}

export class InvalidHeadError extends Error {
  constructor() {
    super('forward: not a valid request head')
  }
}
