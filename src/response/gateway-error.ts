/**
 * Every error the gateway answers with: one table of codes with status, ngrok's code and the sentence people read.
 *
 * Source: traffic-policy.md §8.2 (ERR_NGROK codes), operations.md H-84 (which status for what), O-73 (ERR_GW codes).
 * A retired `gw` number is never used again.
 */
import type { UpstreamFailureReason } from '../listener/front-end.ts'
import type { Reason } from './reason.ts'

export interface ErrorEntry {
  readonly status: number
  /** `sallyport-error-code: ERR_GW_<n>`. */
  readonly gw: number
  /** `ngrok-error-code: ERR_NGROK_<n>`, where ngrok has one. */
  readonly ngrok?: number
  /** Read by people in the error page; no detail that helps an attacker. */
  readonly message: string
  readonly reason: Reason
}

export const ERRORS = {
  BAD_REQUEST: { status: 400, gw: 1000, message: 'The request is malformed.', reason: 'bad_request:H-01' },
  AMBIGUOUS_PATH: { status: 400, gw: 1001, message: 'The path has more than one reading.', reason: 'bad_request:H-66' },
  BODY_TOO_LARGE: { status: 413, gw: 1002, message: 'The request body is too large.', reason: 'bad_request:H-36' },
  UNSUPPORTED_ENCODING: {
    status: 415,
    gw: 1003,
    message: 'The content coding of the request body cannot be inspected.',
    reason: 'bad_request:T-43',
  },
  MISDIRECTED: {
    status: 421,
    gw: 1004,
    message: 'The connection was made for another host.',
    reason: 'bad_request:H-17',
  },
  UPGRADE_REFUSED: {
    status: 501,
    gw: 1005,
    message: 'The connection cannot be upgraded to this protocol here.',
    reason: 'bad_request:H-60',
  },
  UNKNOWN_HOST: {
    status: 404,
    gw: 1010,
    ngrok: 3200,
    message: 'No endpoint answers at this host.',
    reason: 'no_route',
  },
  POLICY_DID_NOT_END: {
    status: 404,
    gw: 1011,
    ngrok: 6029,
    message: 'No rule of this endpoint handles the request.',
    reason: 'no_route',
  },
  ENDPOINT_OFFLINE: {
    status: 404,
    gw: 1012,
    ngrok: 3200,
    message: 'The internal endpoint is offline.',
    reason: 'no_route',
  },
  TOO_MANY_ENDPOINTS: {
    status: 508,
    gw: 1013,
    ngrok: 3501,
    message: 'The request was forwarded through too many endpoints.',
    reason: 'no_route',
  },
  LOOP: { status: 508, gw: 1014, message: 'The request has already passed this gateway.', reason: 'no_route' },
  JWT_MISSING: {
    status: 401,
    gw: 1020,
    ngrok: 3401,
    message: 'The request lacks valid credentials.',
    reason: 'auth:ERR_NGROK_3401',
  },
  JWT_FORBIDDEN: {
    status: 403,
    gw: 1021,
    ngrok: 3403,
    message: 'The credentials do not permit this request.',
    reason: 'auth:ERR_NGROK_3403',
  },
  JWT_KEYS_MISSING: {
    status: 503,
    gw: 1023,
    ngrok: 3422,
    message: 'The credentials cannot be checked at the moment.',
    reason: 'auth:ERR_NGROK_3422',
  },
  IP_RESTRICTED: {
    status: 403,
    gw: 1022,
    ngrok: 3203,
    message: 'The client address is not permitted.',
    reason: 'denied:restrict-ips',
  },
  BASIC_AUTH_REFUSED: {
    status: 401,
    gw: 1024,
    message: 'The request lacks valid credentials.',
    reason: 'auth:basic-auth',
  },
  WEBHOOK_REFUSED: {
    status: 403,
    gw: 1025,
    ngrok: 3204,
    message: 'The webhook could not be verified.',
    reason: 'auth:ERR_NGROK_3204',
  },
  LOGIN_STATE_INVALID: {
    status: 400,
    gw: 1100,
    ngrok: 5500,
    message: 'The login cannot be finished here: its state is missing or invalid.',
    reason: 'auth:ERR_NGROK_5500',
  },
  LOGIN_TOO_LATE: {
    status: 400,
    gw: 1101,
    ngrok: 5501,
    message: 'The login was not finished in time.',
    reason: 'auth:ERR_NGROK_5501',
  },
  LOGIN_SCOPES_NOT_GRANTED: {
    status: 403,
    gw: 1102,
    ngrok: 5502,
    message: 'The login needs permissions that were not granted.',
    reason: 'auth:ERR_NGROK_5502',
  },
  LOGIN_NO_EMAIL: {
    status: 403,
    gw: 1103,
    ngrok: 5510,
    message: 'The provider gave no verified e-mail address.',
    reason: 'auth:ERR_NGROK_5510',
  },
  LOGIN_NOT_AUTHORISED: {
    status: 403,
    gw: 1104,
    ngrok: 5511,
    message: 'This account is not authorised.',
    reason: 'auth:ERR_NGROK_5511',
  },
  LOGIN_DENIED: {
    status: 403,
    gw: 1105,
    ngrok: 5517,
    message: 'The login was denied at the provider.',
    reason: 'auth:ERR_NGROK_5517',
  },
  LOGIN_REVOKED: {
    status: 403,
    gw: 1106,
    ngrok: 5518,
    message: 'The provider has taken the access back.',
    reason: 'auth:ERR_NGROK_5518',
  },
  LOGIN_BAD_SCOPE: {
    status: 500,
    gw: 1107,
    ngrok: 5520,
    message: 'The provider does not know a scope that this endpoint asks for.',
    reason: 'auth:ERR_NGROK_5520',
  },
  LOGIN_PROVIDER_FAILED: {
    status: 502,
    gw: 1108,
    ngrok: 5521,
    message: 'The provider fails at the moment.',
    reason: 'auth:ERR_NGROK_5521',
  },
  LOGIN_PROVIDER_BUSY: {
    status: 503,
    gw: 1109,
    ngrok: 5522,
    message: 'The provider is busy at the moment.',
    reason: 'auth:ERR_NGROK_5522',
  },
  LOGIN_BAD_REDIRECT: {
    status: 500,
    gw: 1110,
    ngrok: 5523,
    message: 'The provider does not know the redirect URL of this endpoint.',
    reason: 'auth:ERR_NGROK_5523',
  },
  LOGIN_REJECTED: {
    status: 403,
    gw: 1111,
    ngrok: 5524,
    message: 'The provider rejected the login.',
    reason: 'auth:ERR_NGROK_5524',
  },
  LOGIN_PROVIDER_UNREADABLE: {
    status: 502,
    gw: 1112,
    ngrok: 5525,
    message: 'The answer of the provider cannot be used.',
    reason: 'auth:ERR_NGROK_5525',
  },
  LOGIN_WRONG_ACCOUNT: {
    status: 403,
    gw: 1113,
    ngrok: 5526,
    message: 'The provider asks to choose another account.',
    reason: 'auth:ERR_NGROK_5526',
  },
  LOGIN_BAD_CLIENT: {
    status: 500,
    gw: 1114,
    ngrok: 5527,
    message: 'The provider does not accept the credentials of this endpoint.',
    reason: 'auth:ERR_NGROK_5527',
  },
  LOGIN_CODE_EXPIRED: {
    status: 400,
    gw: 1115,
    ngrok: 5528,
    message: 'The code of the login has expired or was used before.',
    reason: 'auth:ERR_NGROK_5528',
  },
  LOGIN_REQUIRED_AGAIN: {
    status: 403,
    gw: 1116,
    ngrok: 5529,
    message: 'The provider asks to log in again.',
    reason: 'auth:ERR_NGROK_5529',
  },
  LOGIN_INTERACTION_REQUIRED: {
    status: 403,
    gw: 1117,
    ngrok: 5531,
    message: 'The provider has questions to ask first.',
    reason: 'auth:ERR_NGROK_5531',
  },
  LOGIN_CONSENT_REQUIRED: {
    status: 403,
    gw: 1118,
    ngrok: 5532,
    message: 'The provider needs your consent first.',
    reason: 'auth:ERR_NGROK_5532',
  },
  LOGIN_PROVIDER_THROTTLES: {
    status: 503,
    gw: 1119,
    ngrok: 5533,
    message: 'The provider takes no more requests at the moment.',
    reason: 'auth:ERR_NGROK_5533',
  },
  LOGIN_NO_METADATA: {
    status: 503,
    gw: 1120,
    ngrok: 5534,
    message: 'The provider cannot be reached at the moment.',
    reason: 'auth:ERR_NGROK_5534',
  },
  LOGIN_NEEDS_CLIENT: {
    status: 500,
    gw: 1121,
    ngrok: 5535,
    message: 'The provider needs a client id of your own.',
    reason: 'auth:ERR_NGROK_5535',
  },
  LOGIN_NO_USER_ID: {
    status: 403,
    gw: 1122,
    ngrok: 5536,
    message: 'The provider gave no user id.',
    reason: 'auth:ERR_NGROK_5536',
  },
  LOGIN_VALUE_FAILED: {
    status: 500,
    gw: 1123,
    ngrok: 5537,
    message: 'A value of the login could not be computed.',
    reason: 'internal',
  },
  LOGIN_NOT_SEALED: {
    status: 500,
    gw: 1124,
    ngrok: 5538,
    message: 'The session does not fit into a cookie.',
    reason: 'internal',
  },
  LOGIN_PROVIDER_TIMEOUT: {
    status: 504,
    gw: 1125,
    ngrok: 5521,
    message: 'The provider did not answer in time.',
    reason: 'auth:ERR_NGROK_5521',
  },
  LOGIN_TOO_MANY: {
    status: 503,
    gw: 1126,
    message: 'Too many logins are under way.',
    reason: 'overflow',
  },
  LOGIN_ASSERTION_REFUSED: {
    status: 403,
    gw: 1127,
    message: 'The answer of the identity provider was refused.',
    reason: 'auth:saml',
  },
  RATE_LIMITED: { status: 429, gw: 1030, message: 'Too many requests.', reason: 'rate_limited:' },
  LIMITER_DOWN: {
    status: 503,
    gw: 1031,
    message: 'The rate limit cannot be checked at the moment.',
    reason: 'internal',
  },
  CIRCUIT_OPEN: {
    status: 503,
    gw: 1032,
    ngrok: 3202,
    message: 'The upstream fails too often; it is not asked for a while.',
    reason: 'circuit_open',
  },
  WAF_REQUEST_BLOCKED: {
    status: 403,
    gw: 1040,
    ngrok: 3700,
    message: 'The request was blocked by the web application firewall.',
    reason: 'waf:request',
  },
  WAF_FAILED: {
    status: 500,
    gw: 1041,
    ngrok: 3701,
    message: 'The web application firewall could not inspect the message.',
    reason: 'internal',
  },
  WAF_RESPONSE_BLOCKED: {
    status: 403,
    gw: 1042,
    ngrok: 3702,
    message: 'The response was blocked by the web application firewall.',
    reason: 'waf:response',
  },
  EXPRESSION_FAILED: {
    status: 500,
    gw: 1050,
    ngrok: 2254,
    message: 'An expression of the policy failed.',
    reason: 'internal',
  },
  INTERPOLATION_FAILED: {
    status: 500,
    gw: 1051,
    ngrok: 2253,
    message: 'A value of the policy could not be computed.',
    reason: 'internal',
  },
  BAD_UPSTREAM_RESPONSE: {
    status: 502,
    gw: 1060,
    ngrok: 3004,
    message: 'The upstream sent an invalid answer.',
    reason: 'upstream_bad_response',
  },
  CONNECT_TIMEOUT: {
    status: 504,
    gw: 1061,
    ngrok: 3005,
    message: 'No connection to the upstream in time.',
    reason: 'connect_timeout',
  },
  CONNECT_FAILED: {
    status: 502,
    gw: 1062,
    ngrok: 3006,
    message: 'The upstream refused the connection.',
    reason: 'connect_failed',
  },
  UPSTREAM_RESET: {
    status: 502,
    gw: 1063,
    ngrok: 3007,
    message: 'The upstream closed the connection.',
    reason: 'upstream_reset',
  },
  FIRST_BYTE_TIMEOUT: {
    status: 504,
    gw: 1064,
    ngrok: 3008,
    message: 'The upstream did not answer in time.',
    reason: 'first_byte_timeout',
  },
  IDLE_TIMEOUT: {
    status: 504,
    gw: 1065,
    ngrok: 3008,
    message: 'The upstream stopped answering.',
    reason: 'idle_timeout',
  },
  OVERFLOW: { status: 503, gw: 1066, message: 'Too many requests wait for the upstream.', reason: 'overflow' },
  TOTAL_TIMEOUT: {
    status: 504,
    gw: 1067,
    ngrok: 3008,
    message: 'The request took too long.',
    reason: 'total_timeout',
  },
  NO_HEALTHY_TARGET: {
    status: 503,
    gw: 1068,
    message: 'No server of the upstream can be used.',
    reason: 'no_healthy_target',
  },
  TARGETS_DRAINED: {
    status: 503,
    gw: 1069,
    message: 'The upstream takes no requests at the moment.',
    reason: 'draining',
  },
  BODY_VALUE_FAILED: {
    status: 500,
    gw: 1070,
    ngrok: 3900,
    message: 'A value that the body is to be changed by could not be computed.',
    reason: 'internal',
  },
  BODY_PATTERN_INVALID: {
    status: 500,
    gw: 1071,
    ngrok: 3901,
    message: 'A pattern that the body is to be changed by is not valid.',
    reason: 'internal',
  },
  RESPONSE_TOO_LARGE: {
    status: 502,
    gw: 1072,
    ngrok: 3903,
    message: 'The response body is too large to be changed.',
    reason: 'upstream_bad_response:too_large',
  },
  RESPONSE_UNREADABLE: {
    status: 502,
    gw: 1073,
    ngrok: 3903,
    message: 'The content coding of the response body cannot be read.',
    reason: 'upstream_bad_response:encoding',
  },
  BODY_CHANGE_FAILED: {
    status: 500,
    gw: 1074,
    ngrok: 3904,
    message: 'The body could not be changed as the policy asks.',
    reason: 'internal',
  },
  HTTP_REQUEST_TOO_LARGE: {
    status: 502,
    gw: 1080,
    ngrok: 3601,
    message: 'A service that the policy asked sent too large an answer.',
    reason: 'upstream_bad_response:http_request',
  },
  HTTP_REQUEST_TIMEOUT: {
    status: 504,
    gw: 1081,
    ngrok: 3602,
    message: 'A service that the policy asked did not answer in time.',
    reason: 'total_timeout',
  },
  HTTP_REQUEST_LOOP: {
    status: 508,
    gw: 1082,
    ngrok: 3603,
    message: 'Requests of the policy led to further ones too often.',
    reason: 'no_route',
  },
  HTTP_REQUEST_REDIRECTS: {
    status: 502,
    gw: 1083,
    ngrok: 3214,
    message: 'A service that the policy asked redirected too often.',
    reason: 'upstream_bad_response:http_request',
  },
  HTTP_REQUEST_FAILED: {
    status: 502,
    gw: 1084,
    message: 'A service that the policy asked could not be reached.',
    reason: 'connect_failed',
  },
  HTTP_REQUEST_REFUSED: {
    status: 500,
    gw: 1085,
    message: 'The policy asks a service that it may not ask.',
    reason: 'internal',
  },
  AI_UNREACHABLE: {
    status: 502,
    gw: 1200,
    ngrok: 3800,
    message: 'No AI provider could be reached.',
    reason: 'connect_failed',
  },
  AI_BODY_INVALID: {
    status: 400,
    gw: 1201,
    ngrok: 3801,
    message: 'The request body is not one for a model.',
    reason: 'denied:ai-gateway',
  },
  AI_KEY_MISSING: {
    status: 400,
    gw: 1202,
    ngrok: 3802,
    message: 'There is no API key for the provider.',
    reason: 'denied:ai-gateway',
  },
  AI_SELECTION_FAILED: {
    status: 422,
    gw: 1203,
    ngrok: 3803,
    message: 'The strategy that selects models failed.',
    reason: 'internal',
  },
  AI_NO_MODEL: {
    status: 422,
    gw: 1204,
    ngrok: 3804,
    message: 'No model matches the request.',
    reason: 'no_route',
  },
  AI_SELECTION_EMPTY: {
    status: 422,
    gw: 1205,
    ngrok: 3805,
    message: 'The strategy that selects models left none.',
    reason: 'no_route',
  },
  AI_TIMEOUT: {
    status: 504,
    gw: 1206,
    ngrok: 3810,
    message: 'The AI providers did not answer in time.',
    reason: 'total_timeout',
  },
  AI_PROMPT_TOO_LARGE: {
    status: 413,
    gw: 1207,
    ngrok: 3811,
    message: 'The prompt has too many tokens.',
    reason: 'denied:ai-gateway',
  },
  AI_ATTEMPTS_FAILED: {
    status: 502,
    gw: 1208,
    ngrok: 3812,
    message: 'Every attempt to get an answer from an AI provider failed.',
    reason: 'upstream_bad_response:ai',
  },
  AI_FORMAT_UNSUPPORTED: {
    status: 422,
    gw: 1209,
    ngrok: 3813,
    message: 'No selected model understands this API format.',
    reason: 'no_route',
  },
  INTERNAL: { status: 500, gw: 1090, ngrok: 2300, message: 'Internal error.', reason: 'internal' },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof ERRORS

/**
 * A failure that ends the exchange with one of our error answers. `cause` goes to the log, never to the client. It has no
 * stack: its code says where it comes from, and walking the stack costs more than the answer.
 */
export class GatewayError extends Error {
  readonly code: ErrorCode
  readonly reason: Reason
  /** Extra response lines (`retry-after: 3\r\n`). */
  readonly lines: string
  /** Where the error page offers to try again: a path on this host, without quotes and angle brackets. */
  readonly retryPath: string | undefined

  constructor(code: ErrorCode, options: { reason?: Reason; lines?: string; cause?: unknown; retryPath?: string } = {}) {
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(ERRORS[code].message, options.cause === undefined ? undefined : { cause: options.cause })
    Error.stackTraceLimit = stackTraceLimit
    this.name = 'GatewayError'
    this.code = code
    this.reason = options.reason ?? ERRORS[code].reason
    this.lines = options.lines ?? ''
    this.retryPath = options.retryPath
  }
}

/** The error that an upstream failure becomes when no retry is left (H-84). */
export const UPSTREAM_ERRORS: Record<UpstreamFailureReason, ErrorCode> = {
  connect_failed: 'CONNECT_FAILED',
  connect_timeout: 'CONNECT_TIMEOUT',
  tls_failed: 'CONNECT_FAILED',
  upstream_reset: 'UPSTREAM_RESET',
  upstream_bad_response: 'BAD_UPSTREAM_RESPONSE',
  first_byte_timeout: 'FIRST_BYTE_TIMEOUT',
  idle_timeout: 'IDLE_TIMEOUT',
  overflow: 'OVERFLOW',
}
