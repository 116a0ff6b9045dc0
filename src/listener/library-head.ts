/**
 * Request heads out of the library's memory: one native call instead of one call per field.
 *
 * The library tells of a head field by field. The native part reads the same memory at once and makes of it what
 * `read-head.ts` would, if nothing in it is to be decided; every other head is read field by field. What lies where is
 * not promised by anybody: the first heads of a process are read both ways, through the kernel so that nothing can go wrong, and
 * compared. One difference, or a platform on which this cannot be done, and all heads are read field by field.
 *
 * Source: H-07 … H-23; native/binding/src/library_head.rs.
 */
import * as native from '../native/library-heads.ts'
import type { FrontEndLimits } from './front-end.ts'
import type { HttpRequest, HttpResponse } from './library.ts'
import { acceptUsualHead, type HeadRefusal, type RequestHead } from './read-head.ts'

/** So many heads in a row must come out the same. */
const PROOFS = 8

/** Shared by all front ends of a process. */
const facts = new Float64Array(native.LIBRARY_HEAD_FACTS)
let proofs = 0
let isUsable = true
/** Of the last head, when it was good; else empty. */
let lastHost = ''
let bodyLines = ''
let bodyLinesLength = -1

/** The connection that the head came on which was read last: a number that no other open connection has. */
export function lastConnection(): number {
  return facts[4]! // there are six
}

/** The number under which the native pool knows the head that was read last, until the next one is read. */
export function lastHead(): number {
  return facts[5]! // there are six
}

/** Whether heads are read at once; undecided at first. */
export function readsLibraryMemory(): boolean {
  return isUsable && proofs === PROOFS
}

/** Must be called in the library's handler. undefined: to be read field by field. */
export function readUsualHead(
  request: HttpRequest,
  response: HttpResponse,
  limits: FrontEndLimits,
): RequestHead | HeadRefusal | undefined {
  if (proofs < PROOFS) {
    if (isUsable) prove(request)
    return undefined
  }
  const head = native.readLibraryHead(request, response, limits.uriBytes, limits.headBytes)
  if (head === undefined) return undefined
  const flags = facts[0]!
  const hostAt = facts[1]!
  const bodyLength = facts[3]!
  const isSameHost = (flags & native.LIBRARY_HEAD_SAME_HOST) !== 0 && lastHost !== ''
  const accepted = acceptUsualHead(
    {
      head,
      host: isSameHost ? lastHost : head.slice(hostAt, hostAt + facts[2]!),
      connectionLines: connectionLines(flags, bodyLength),
      proxyFields: (flags & native.LIBRARY_HEAD_PROXY_FIELDS) !== 0,
      hasPlainPath: (flags & native.LIBRARY_HEAD_PLAIN_PATH) !== 0,
      isHead: (flags & native.LIBRARY_HEAD_IS_HEAD) !== 0,
      bodyLength,
      close: (flags & native.LIBRARY_HEAD_CLOSE) !== 0,
    },
    limits,
  )
  lastHost = 'status' in accepted ? '' : accepted.host
  return accepted
}

/** The lines that `head` lacks, in the order in which they came. */
function connectionLines(flags: number, bodyLength: number): string {
  let connection = ''
  if ((flags & native.LIBRARY_HEAD_CLOSE) !== 0) connection = 'connection: close\r\n'
  else if ((flags & native.LIBRARY_HEAD_KEEP_ALIVE) !== 0) connection = 'connection: keep-alive\r\n'
  if ((flags & native.LIBRARY_HEAD_HAS_LENGTH) === 0) return connection
  if (bodyLength !== bodyLinesLength) {
    bodyLinesLength = bodyLength
    bodyLines = `content-length: ${bodyLength}\r\n`
  }
  if (connection === '') return bodyLines
  return (flags & native.LIBRARY_HEAD_LENGTH_FIRST) === 0 ? connection + bodyLines : bodyLines + connection
}

function prove(request: HttpRequest): void {
  let told = ''
  const query = request.getQuery() as string | undefined
  told = `${request.getCaseSensitiveMethod()} ${request.getUrl()}${query === undefined ? '' : `?${query}`}\n`
  request.forEach((name, value) => {
    told += `${name}: ${value}\n`
  })
  // what is not ASCII is told in another form than it has
  if (/[^\0-\x7f]/.test(told)) return // eslint-disable-line no-control-regex -- all of ASCII is meant
  isUsable = native.probeLibraryHead(request)?.toString('latin1') === told
  if (!isUsable) return
  proofs++
  if (proofs === PROOFS) native.openLibraryHeads(facts)
}
