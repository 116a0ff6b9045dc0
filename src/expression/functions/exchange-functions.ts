/** Functions of the exchange: headers, cookies and query parameters, addresses, secrets. Source: traffic-policy.md §7.1, §7.2, §7.8. */
import { inCidr, parseAddress, parseCidr } from '../../exchange/cidr.ts'
import type { Cidr } from '../../exchange/cidr.ts'
import { EvaluationError } from '../evaluation-error.ts'
import type { Frame } from '../frame.ts'
import { cookie, requestCookiePairs, responseCookies } from '../headers.ts'
import { queryParameters } from '../query.ts'
import type { HeaderView, PhaseName } from '../source.ts'
import { isList } from '../value.ts'
import type { CelList, CelValue } from '../value.ts'
import { requestOf, responseOf } from '../variables.ts'
import { wantList, wantText } from './arguments.ts'
import type { FunctionServices, FunctionTable, Implementation } from './registry.ts'

const HTTP_PHASES: readonly PhaseName[] = ['on_http_request', 'on_http_response', 'on_event_stream_message']
const RESPONSE_PHASES: readonly PhaseName[] = ['on_http_response', 'on_event_stream_message']

export function defineExchangeFunctions(table: FunctionTable, services: FunctionServices): void {
  defineHeaderFunctions(table, 'Req', (frame) => requestOf(frame).headers, HTTP_PHASES)
  defineHeaderFunctions(table, 'Res', (frame) => responseOf(frame).headers, RESPONSE_PHASES)
  defineCookieFunctions(table)
  defineQueryFunctions(table)
  defineAddressFunctions(table)
  const secret: Implementation = (_frame, vault, name) => {
    const value = services.secret(wantText(vault, 'secrets.get'), wantText(name, 'secrets.get'))
    if (value === undefined) throw new EvaluationError('there is no such secret (ERR_NGROK_24009)')
    return value
  }
  for (const name of ['secrets.get', 'security.secret', 'secret']) {
    table.define(name, [`${name}(string, string) -> string`], secret, { pure: false })
  }
}

function defineHeaderFunctions(
  table: FunctionTable,
  message: 'Req' | 'Res',
  headers: (frame: Frame) => HeaderView,
  phases: readonly PhaseName[],
): void {
  const [get, has] = [`get${message}Header`, `has${message}Header`]
  table.define(
    get,
    [`${get}(string) -> header_values`],
    (frame, name) => headers(frame).all(wantText(name, get).toLowerCase()),
    { pure: false, phases },
  )
  table.define(
    has,
    [`${has}(string) -> bool`],
    (frame, name) => headers(frame).has(wantText(name, has).toLowerCase()),
    {
      pure: false,
      phases,
    },
  )
}

function defineCookieFunctions(table: FunctionTable): void {
  const inRequest = (frame: Frame, name: string): readonly [string, string] | undefined =>
    requestCookiePairs(requestOf(frame).headers).find(([own]) => own === name)
  const inResponse = (frame: Frame, name: string): CelValue | undefined => {
    const list = responseCookies(responseOf(frame).headers).get(name)
    return list !== undefined && isList(list) ? list[0] : undefined
  }
  table.define(
    'getReqCookie',
    ['getReqCookie(string) -> map(string, dyn)'],
    (frame, a) => {
      const found = inRequest(frame, wantText(a, 'getReqCookie'))
      return found === undefined ? cookie({}) : cookie({ name: found[0], value: found[1] })
    },
    { pure: false, phases: HTTP_PHASES },
  )
  table.define(
    'hasReqCookie',
    ['hasReqCookie(string) -> bool'],
    (frame, a) => inRequest(frame, wantText(a, 'hasReqCookie')) !== undefined,
    { pure: false, phases: HTTP_PHASES },
  )
  table.define(
    'getResCookie',
    ['getResCookie(string) -> map(string, dyn)'],
    (frame, a) => inResponse(frame, wantText(a, 'getResCookie')) ?? cookie({}),
    { pure: false, phases: RESPONSE_PHASES },
  )
  table.define(
    'hasResCookie',
    ['hasResCookie(string) -> bool'],
    (frame, a) => inResponse(frame, wantText(a, 'hasResCookie')) !== undefined,
    { pure: false, phases: RESPONSE_PHASES },
  )
}

function defineQueryFunctions(table: FunctionTable): void {
  const parameters = (frame: Frame): ReturnType<typeof queryParameters> => queryParameters(requestOf(frame).url.query)
  table.define(
    'getQueryParam',
    ['getQueryParam(string) -> list(string)'],
    (frame, a) => parameters(frame).get(wantText(a, 'getQueryParam')) ?? [],
    { pure: false, phases: HTTP_PHASES },
  )
  table.define(
    'hasQueryParam',
    ['hasQueryParam(string) -> bool'],
    (frame, a) => parameters(frame).has(wantText(a, 'hasQueryParam')),
    { pure: false, phases: HTTP_PHASES },
  )
}

const PRIVATE_RANGES: readonly Cidr[] = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'].map((text) =>
  parseCidr(text)!,
)

function defineAddressFunctions(table: FunctionTable): void {
  const within = (address: string, ranges: readonly Cidr[]): boolean => {
    const bytes = parseAddress(address)
    return bytes !== null && ranges.some((range) => inCidr(bytes, range))
  }
  /** Ranges that are not valid match nothing (§7.2). */
  const rangesOf = (list: CelList, name: string): Cidr[] =>
    list.map((item) => parseCidr(wantText(item, name))).filter((range) => range !== null)
  table.define(
    'inCidrRange',
    ['inCidrRange(string, string) -> bool'],
    (_frame, ip, range) => within(wantText(ip, 'inCidrRange'), rangesOf([range], 'inCidrRange')),
    {
      specialize: ([, range]) => {
        if (typeof range !== 'string') return undefined
        const ranges = rangesOf([range], 'inCidrRange')
        return (_frame, ip) => within(wantText(ip, 'inCidrRange'), ranges)
      },
    },
  )
  table.define(
    'inCidrRanges',
    ['inCidrRanges(string, list(string)) -> bool'],
    (frame, ip, list) => {
      const texts = wantList(list, 'inCidrRanges')
      frame.spend(texts.length * 4)
      return within(wantText(ip, 'inCidrRanges'), rangesOf(texts, 'inCidrRanges'))
    },
    {
      specialize: ([, list]) => {
        if (list === undefined || !isList(list)) return undefined
        const ranges = rangesOf(list, 'inCidrRanges')
        return (_frame, ip) => within(wantText(ip, 'inCidrRanges'), ranges)
      },
    },
  )
  table.define('isPrivateIp', ['string.isPrivateIp() -> bool'], (_frame, ip) =>
    within(wantText(ip, 'isPrivateIp'), PRIVATE_RANGES),
  )
}
