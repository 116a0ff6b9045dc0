/**
 * Every metric the gateway has: name, type, labels and meaning. The exposition, the documentation and the series cap
 * all read this one table; a series can only be counted under a family that stands here.
 *
 * Source: operations.md O-46 (names, units), O-47 (the list), O-48 (buckets and labels).
 */

export type FamilyType = 'counter' | 'gauge' | 'histogram'

export interface Family {
  /** As exposed in the text format 0.0.4; counters end in `_total`. */
  readonly name: string
  readonly type: FamilyType
  readonly help: string
  readonly labels: readonly string[]
}

/** Upper bounds of latency buckets in seconds (O-48); `+Inf` follows them. */
export const LATENCY_BOUNDS_SECONDS: readonly number[] = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
]

const counter = (name: string, help: string, labels: readonly string[] = []): Family => ({
  name,
  type: 'counter',
  help,
  labels,
})
const gauge = (name: string, help: string, labels: readonly string[] = []): Family => ({
  name,
  type: 'gauge',
  help,
  labels,
})
const histogram = (name: string, help: string, labels: readonly string[] = []): Family => ({
  name,
  type: 'histogram',
  help,
  labels,
})

/** The families in the order in which they are exposed. */
export const FAMILIES = {
  httpRequests: counter('sallyport_http_requests_total', 'Requests that were answered or abandoned.', [
    'endpoint',
    'method',
    'code',
  ]),
  httpRequestDuration: histogram(
    'sallyport_http_request_duration_seconds',
    'From the complete request head to the end of the response.',
    ['endpoint'],
  ),
  httpRequestsInFlight: gauge('sallyport_http_requests_in_flight', 'Requests that have begun and not ended.'),
  httpRequestBytes: counter('sallyport_http_request_bytes_total', 'Bytes of request bodies received.', ['endpoint']),
  httpResponseBytes: counter('sallyport_http_response_bytes_total', 'Bytes of response bodies sent.', ['endpoint']),
  upstreamRequests: counter(
    'sallyport_upstream_requests_total',
    'Requests sent upstream; code is the answer’s status, or the reason why there was none.',
    ['endpoint', 'target', 'code'],
  ),
  upstreamDuration: histogram(
    'sallyport_upstream_duration_seconds',
    'From the start of the upstream leg to the first byte of its answer.',
    ['endpoint'],
  ),
  upstreamConnect: histogram('sallyport_upstream_connect_seconds', 'Time to establish a new upstream connection.', [
    'endpoint',
  ]),
  upstreamConnections: gauge('sallyport_upstream_connections', 'Upstream connections and requests that wait for one.', [
    'state',
  ]),
  upstreamHealthy: gauge('sallyport_upstream_healthy', '1 while the target takes requests.', ['target']),
  upstreamHealthChecks: counter(
    'sallyport_upstream_health_checks_total',
    'Health checks of targets: passed or failed.',
    ['target', 'result'],
  ),
  upstreamEjections: counter('sallyport_upstream_ejections_total', 'Times a target was taken out for its failures.', [
    'target',
  ]),
  upstreamRetries: counter('sallyport_upstream_retries_total', 'Requests sent upstream once more.', ['reason']),
  policyActions: counter('sallyport_policy_actions_total', 'Policy actions that ran, by what they came to.', [
    'endpoint',
    'action',
    'outcome',
  ]),
  policyDuration: histogram('sallyport_policy_duration_seconds', 'Time spent in the rules of one phase.', ['phase']),
  rateLimitDecisions: counter(
    'sallyport_rate_limit_decisions_total',
    'Decisions of rate limits: allowed or limited, and which store decided.',
    ['name', 'decision', 'mode'],
  ),
  rateLimitStore: histogram(
    'sallyport_rate_limit_store_seconds',
    'Time until a rate limit was decided with the shared store, whether it answered or not.',
    [],
  ),
  rateLimitStoreUp: gauge('sallyport_rate_limit_store_up', 'Workers that reach the shared rate-limit store.'),
  rateLimitBucketEvictions: gauge(
    'sallyport_rate_limit_bucket_evictions',
    'Memory buckets thrown out although their window still held counts.',
  ),
  circuitState: gauge('sallyport_circuit_state', 'Circuit breakers that refuse requests now.', ['endpoint']),
  wafMatches: counter('sallyport_waf_matches_total', 'Rules of the rule set that matched.', ['rule', 'phase']),
  wafMatchesUnlogged: counter(
    'sallyport_waf_matches_unlogged_total',
    'Matches of rules without a log event of their own: the log was half full, or the transaction had more than are kept.',
  ),
  wafCollectionLosses: gauge(
    'sallyport_waf_collection_losses',
    'What was lost of collections: records thrown out before their time, members that did not fit into their record.',
    ['cause'],
  ),
  wafTransactions: gauge('sallyport_waf_transactions', 'Scans that are open: each ends with its exchange.'),
  jwksRefresh: counter('sallyport_jwks_refresh_total', 'Attempts to fetch a key set.', ['result']),
  connections: gauge('sallyport_connections', 'Client connections.', ['listener', 'protocol', 'state']),
  webSocketMessages: counter('sallyport_websocket_messages_total', 'Messages of WebSockets that have ended.', [
    'endpoint',
    'direction',
  ]),
  tlsCertificateNotAfter: gauge(
    'sallyport_tls_certificate_not_after_seconds',
    'When the certificate that is shown for a name ends, seconds since 1970; 0 = none is shown any more.',
    ['name'],
  ),
  logDropped: counter('sallyport_log_dropped_total', 'Log lines lost because their reader was too slow.', ['log']),
  metricsDropped: counter(
    'sallyport_metrics_dropped_series_total',
    'Observations counted under __other__ because the number of series is capped.',
  ),
  configReloads: counter('sallyport_config_reloads_total', 'Reloads asked for.', ['result']),
  configLastReloadSuccess: gauge('sallyport_config_last_reload_success', '1 when the last reload was accepted.'),
  configLastReloadTimestamp: gauge(
    'sallyport_config_last_reload_timestamp_seconds',
    'When the configuration that serves was accepted.',
  ),
  workerUp: gauge('sallyport_worker_up', '1 while the worker serves the current configuration.', ['worker']),
  workerRestarts: counter('sallyport_worker_restarts_total', 'Workers replaced after they died.', ['worker']),
  workerEventLoopLag: gauge(
    'sallyport_worker_event_loop_lag_seconds',
    'Longest delay of a timer in the last ten to twenty seconds.',
    ['worker'],
  ),
  buildInfo: gauge('sallyport_build_info', 'Always 1; the labels say what runs.', ['version', 'node', 'front_end']),
  processCpu: counter('process_cpu_seconds_total', 'User and system CPU time.', ['process']),
  processResidentMemory: gauge('process_resident_memory_bytes', 'Resident memory.', ['process']),
  processStartTime: gauge('process_start_time_seconds', 'When the process started.', ['process']),
  processOpenFds: gauge('process_open_fds', 'Open file descriptors.', ['process']),
  nodejsHeapUsed: gauge('nodejs_heap_size_used_bytes', 'Memory the JavaScript heap uses.', ['process']),
  nodejsExternalMemory: gauge('nodejs_external_memory_bytes', 'Memory outside the heap held by JavaScript objects.', [
    'process',
  ]),
} as const satisfies Record<string, Family>

export type FamilyKey = keyof typeof FAMILIES

/** Every family key in exposition order; the index is what crosses between processes. */
// Object.keys of this literal gives exactly its own keys
export const FAMILY_KEYS: readonly FamilyKey[] = Object.keys(FAMILIES) as FamilyKey[]

/** The method label knows the methods of RFC 9110 and 5789; all others are `OTHER` (O-48). */
export const METHOD_LABELS: readonly string[] = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'OTHER',
]

/** What takes the place of label values beyond the cap on series (O-49). */
export const OTHER_LABEL = '__other__'

/** O-49: series per gateway. */
export const MAX_SERIES = 10_000
