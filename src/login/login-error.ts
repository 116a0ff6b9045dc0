/**
 * Why a login, or asking a provider again, failed: one of the gateway's error codes, and words for the log that hold no
 * token, code or secret. Source: traffic-policy.md §8.2 (55xx); RFC 6749 §4.1.2.1, §5.2; OpenID Connect Core §3.1.2.6.
 */
import type { ErrorCode } from '../response/gateway-error.ts'

export type LoginErrorCode = Extract<ErrorCode, `LOGIN_${string}`>

export class LoginError extends Error {
  override readonly name = 'LoginError'
  readonly code: LoginErrorCode

  constructor(code: LoginErrorCode, message: string) {
    super(message)
    this.code = code
  }

  /** The provider is out of reach or in trouble: nothing was said about the user. */
  get isOutage(): boolean {
    return OUTAGES.has(this.code)
  }
}

const OUTAGES: ReadonlySet<LoginErrorCode> = new Set<LoginErrorCode>([
  'LOGIN_PROVIDER_FAILED',
  'LOGIN_PROVIDER_BUSY',
  'LOGIN_PROVIDER_UNREADABLE',
  'LOGIN_PROVIDER_THROTTLES',
  'LOGIN_PROVIDER_TIMEOUT',
  'LOGIN_NO_METADATA',
  'LOGIN_TOO_MANY',
])

/** What providers send as `error`. */
const BY_PROVIDER_ERROR: ReadonlyMap<string, LoginErrorCode> = new Map<string, LoginErrorCode>([
  ['access_denied', 'LOGIN_DENIED'],
  ['invalid_scope', 'LOGIN_BAD_SCOPE'],
  ['login_required', 'LOGIN_REQUIRED_AGAIN'],
  ['interaction_required', 'LOGIN_INTERACTION_REQUIRED'],
  ['consent_required', 'LOGIN_CONSENT_REQUIRED'],
  ['account_selection_required', 'LOGIN_WRONG_ACCOUNT'],
  ['server_error', 'LOGIN_PROVIDER_FAILED'],
  ['temporarily_unavailable', 'LOGIN_PROVIDER_BUSY'],
  ['redirect_uri_mismatch', 'LOGIN_BAD_REDIRECT'],
  ['invalid_redirect_uri', 'LOGIN_BAD_REDIRECT'],
  ['invalid_client', 'LOGIN_BAD_CLIENT'],
  ['unauthorized_client', 'LOGIN_BAD_CLIENT'],
  ['incorrect_client_credentials', 'LOGIN_BAD_CLIENT'],
  ['bad_verification_code', 'LOGIN_CODE_EXPIRED'],
  ['slow_down', 'LOGIN_PROVIDER_THROTTLES'],
])

/** The code for an `error` of a provider; `invalid_grant` means another thing when a session is renewed. */
export function codeOfProviderError(error: string, step: 'login' | 'renewal'): LoginErrorCode {
  if (error === 'invalid_grant') return step === 'login' ? 'LOGIN_CODE_EXPIRED' : 'LOGIN_REVOKED'
  return BY_PROVIDER_ERROR.get(error) ?? 'LOGIN_REJECTED'
}

/** Longest and plainest form in which a text of a provider is logged. */
export function shownText(text: unknown): string {
  return typeof text === 'string' ? text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200) : ''
}
