/**
 * `circuit-breaker`: refuses requests with 503 (ERR_NGROK_3202) while too many of the upstream's answers fail: status 500
 * or more, or no answer at all. Refused requests are not counted. Publishes nothing.
 *
 * One circuit for each (endpoint, position of the action), which all workers share; a reload that leaves both and the
 * settings as they are keeps its state.
 * Source: traffic-policy.md §5.3.
 */
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import { type Circuit, Circuits } from '../circuit/circuit.ts'
import type { Metrics } from '../metrics/metrics.ts'
import { NEXT } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action } from './action.ts'

interface Config {
  readonly error_threshold: number
  readonly volume_threshold: number
  readonly window_duration: number
  readonly tripped_duration: number
  readonly num_buckets: number
  readonly enforce: boolean
}

interface Plan {
  /** Undefined: `enforce: false`, which never trips. */
  readonly circuit: Circuit | undefined
}

const duration = policyKit.durationMs({ minMs: 1000, maxMs: 120_000 })

/** Outlives configurations (O-26). */
const circuits = new Circuits()

/** Lowest status that counts as a failure. */
const FIRST_ERROR_STATUS = 500

export const circuitBreaker: Action<Config, Plan> = {
  type: 'circuit-breaker',
  phases: ['on_http_request'],
  configRequired: false,
  schema: policyKit.object(
    {
      error_threshold: described(
        withDefault(policyKit.number({ min: 0, max: 1 }), 0.5),
        'Share of failed answers from which the circuit opens.',
      ),
      volume_threshold: described(
        withDefault(policyKit.integer({ min: 1, max: 2_000_000_000 }), 10),
        'Requests that a window needs before the share counts.',
      ),
      window_duration: described(withDefault(duration, 10_000), 'Length of the sliding window.'),
      tripped_duration: described(
        withDefault(duration, 10_000),
        'How long an open circuit refuses before it tries one request.',
      ),
      num_buckets: described(withDefault(policyKit.integer({ min: 10, max: 10 }), 10), 'Parts of the window.'),
      enforce: described(
        withDefault(policyKit.boolean(), true),
        'false: only the result says that the circuit is open.',
      ),
    },
    {
      allowNull: true,
      hints: {
        rolling_window: 'this is window_duration',
        error_threshold_percentage: 'this is error_threshold, a share between 0 and 1',
      },
    },
  ),
  compile(config, context) {
    if (!config.enforce) return { circuit: undefined }
    const settings = {
      errorThreshold: config.error_threshold,
      volumeThreshold: config.volume_threshold,
      windowMs: config.window_duration,
      trippedMs: config.tripped_duration,
    }
    return { circuit: circuits.obtain(context.identity, settings) }
  },
  run({ circuit }, exchange) {
    if (circuit === undefined) return NEXT
    const decision = circuit.ask()
    if (decision === 'block') {
      showRefusing(exchange.services.metrics, exchange.frame.endpoint.name, circuit)
      throw new GatewayError('CIRCUIT_OPEN')
    }
    const endpoint = exchange.frame.endpoint.name
    exchange.onUpstreamOutcome((status) => {
      // 0 = it was asked and did not answer
      circuit.settle(decision, status === undefined ? undefined : status === 0 || status >= FIRST_ERROR_STATUS)
      if (circuit.isOpen) showRefusing(exchange.services.metrics, endpoint, circuit)
    })
    return NEXT
  },
}

/** Circuits that were seen open, by endpoint: what the gauge looks at. */
const seenOpen = new WeakMap<Metrics, Map<string, Set<Circuit>>>()

function showRefusing(metrics: Metrics, endpoint: string, circuit: Circuit): void {
  let endpoints = seenOpen.get(metrics)
  if (endpoints === undefined) seenOpen.set(metrics, (endpoints = new Map()))
  const known = endpoints.get(endpoint)
  if (known !== undefined) {
    known.add(circuit)
    return
  }
  const open = new Set([circuit])
  endpoints.set(endpoint, open)
  metrics.gauge('circuitState', [endpoint], () => countRefusing(open))
}

/** Forgets those that refuse no longer, also the ones that no configuration uses any more. */
function countRefusing(open: Set<Circuit>): number {
  for (const circuit of open) if (!circuit.isRefusing) open.delete(circuit)
  // one worker tells of each: gauges of workers are added up
  return [...open].filter((circuit) => circuit.isMine).length
}
