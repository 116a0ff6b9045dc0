/**
 * Why an exchange ended as it did: the closed list of O-59, as it stands in the access log.
 *
 * Source: operations.md O-59.
 */
export type Reason =
  | 'ok'
  | 'client_abort'
  | `bad_request:${string}`
  | 'no_route'
  | `denied:${string}`
  | `auth:${string}`
  | `rate_limited:${string}`
  | 'circuit_open'
  | `waf:${string}`
  | 'no_healthy_target'
  | 'connect_failed'
  | 'connect_timeout'
  | 'upstream_reset'
  | `upstream_bad_response${'' | `:${string}`}`
  | 'first_byte_timeout'
  | 'idle_timeout'
  | 'total_timeout'
  | 'overflow'
  | 'draining'
  | 'internal'
