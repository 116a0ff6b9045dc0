import { describe, expect, test } from 'vitest'
import { MetricsAggregate } from '../../../src/metrics/aggregate.ts'
import { negotiateFormat, renderExposition } from '../../../src/metrics/exposition.ts'
import { FAMILIES, LATENCY_BOUNDS_SECONDS, MAX_SERIES } from '../../../src/metrics/families.ts'
import { Metrics } from '../../../src/metrics/metrics.ts'

/** Exposition of several processes, as lines without comments. */
function samples(aggregate: MetricsAggregate): string[] {
  return renderExposition(aggregate.sums(), 'prometheus')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
}

function sample(aggregate: MetricsAggregate, series: string): number | undefined {
  const line = samples(aggregate).find((candidate) => candidate.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

function collect(aggregate: MetricsAggregate, session: string, metrics: Metrics): void {
  // structured clone is what IPC does to it
  aggregate.update(session, structuredClone(metrics.report(aggregate.known(session))))
}

describe('families', () => {
  test('O-46: names begin with sallyport_, process_ or nodejs_, counters end in _total, units are base units', () => {
    for (const { name, type, help } of Object.values(FAMILIES)) {
      expect(name).toMatch(/^(sallyport|process|nodejs)_[a-z_]+$/)
      if (type === 'counter') expect(name).toMatch(/_total$/)
      else expect(name).not.toMatch(/_total$/)
      if (type === 'histogram') expect(name).toMatch(/_seconds$/)
      expect(help).toMatch(/\.$/)
    }
    expect(new Set(Object.values(FAMILIES).map(({ name }) => name)).size).toBe(Object.keys(FAMILIES).length)
  })

  test('O-48: buckets', () => {
    expect(LATENCY_BOUNDS_SECONDS.map((bound) => bound * 1000)).toEqual([
      0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000,
    ])
  })
})

describe('counting', () => {
  test('O-47: requests by endpoint, method and code; bytes; in flight', () => {
    const metrics = new Metrics()
    metrics.requestStarted()
    metrics.requestStarted()
    metrics.requestStarted()
    metrics.httpRequest('users', 'GET', 200, 1.5, 0, 100)
    metrics.httpRequest('users', 'GET', 200, 1.5, 10, 100)
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    expect(sample(aggregate, 'sallyport_http_requests_total{endpoint="users",method="GET",code="200"}')).toBe(2)
    expect(sample(aggregate, 'sallyport_http_request_bytes_total{endpoint="users"}')).toBe(10)
    expect(sample(aggregate, 'sallyport_http_response_bytes_total{endpoint="users"}')).toBe(200)
    expect(sample(aggregate, 'sallyport_http_requests_in_flight')).toBe(1)
  })

  test('O-48: unknown methods are OTHER', () => {
    const metrics = new Metrics()
    metrics.refusedRequest('BREW', 400)
    metrics.refusedRequest('get', 400)
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    expect(sample(aggregate, 'sallyport_http_requests_total{endpoint="",method="OTHER",code="400"}')).toBe(2)
  })

  test('requests and answers of all labels are told apart in whatever order they come', () => {
    const metrics = new Metrics()
    const labels = [0, 1, 2, 3, 4, 5, 6, 7]
    for (const one of [...labels, ...labels.toReversed(), 0, 0, 7, 0, 3, 3]) {
      const [endpoint, other, code] = [one & 1 ? 'a' : 'b', one & 2 ? 'POST' : 'BREW', one & 4 ? 200 : 404]
      metrics.httpRequest(endpoint, other, code, 1, 0, 0)
      metrics.upstreamRequest(endpoint, `${other}:80`, code, one === 3 ? -1 : 2)
    }
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    for (const one of labels) {
      const count = 2 + [0, 0, 7, 0, 3, 3].filter((each) => each === one).length
      const [endpoint, other, code] = [one & 1 ? 'a' : 'b', one & 2 ? 'POST' : 'BREW', one & 4 ? 200 : 404]
      const method = other === 'BREW' ? 'OTHER' : other
      const request = `sallyport_http_requests_total{endpoint="${endpoint}",method="${method}",code="${code}"}`
      expect(sample(aggregate, request)).toBe(count)
      const leg = `sallyport_upstream_requests_total{endpoint="${endpoint}",target="${other}:80",code="${code}"}`
      expect(sample(aggregate, leg)).toBe(count)
    }
    // four of those of `a` had no first byte
    expect(sample(aggregate, 'sallyport_upstream_duration_seconds_count{endpoint="a"}')).toBe(7)
    expect(sample(aggregate, 'sallyport_upstream_duration_seconds_count{endpoint="b"}')).toBe(11)
  })

  test('histograms are cumulative, a bound belongs to its bucket, the sum is in seconds', () => {
    const metrics = new Metrics()
    for (const ms of [0.5, 0.6, 1, 40_000, -1]) metrics.policyDuration('on_http_request', ms)
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    const of = (le: string): number | undefined =>
      sample(aggregate, `sallyport_policy_duration_seconds_bucket{phase="on_http_request",le="${le}"}`)
    expect([of('0.0005'), of('0.001'), of('30'), of('+Inf')]).toEqual([2, 4, 4, 5])
    expect(sample(aggregate, 'sallyport_policy_duration_seconds_count{phase="on_http_request"}')).toBe(5)
    expect(sample(aggregate, 'sallyport_policy_duration_seconds_sum{phase="on_http_request"}')).toBeCloseTo(40.0021, 6)
  })

  test('every method of its own counts where it says', () => {
    const metrics = new Metrics()
    metrics.upstreamRequest('users', '10.0.0.1:80', 200, 3)
    metrics.upstreamRequest('users', '10.0.0.1:80', 'connect_failed', -1)
    metrics.upstreamConnected('users', 2)
    metrics.upstreamRetry('connect_failed')
    metrics.upstreamEjection('10.0.0.1:80')
    metrics.action('users', 'deny', 'respond')
    metrics.rateLimit('per-ip', 'limited', 'memory')
    metrics.wafMatch(942_100, 2)
    metrics.jwksRefresh('failure')
    metrics.logDropped('access', 7)
    metrics.setGauge('upstreamHealthy', ['10.0.0.1:80'], 1)
    metrics.count('configReloads', ['refused'])
    metrics.observe('policyDuration', ['on_tcp_connect'], 1)
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    expect(samples(aggregate)).toEqual(
      expect.arrayContaining([
        'sallyport_upstream_requests_total{endpoint="users",target="10.0.0.1:80",code="200"} 1',
        'sallyport_upstream_requests_total{endpoint="users",target="10.0.0.1:80",code="connect_failed"} 1',
        'sallyport_upstream_duration_seconds_count{endpoint="users"} 1',
        'sallyport_upstream_connect_seconds_count{endpoint="users"} 1',
        'sallyport_upstream_retries_total{reason="connect_failed"} 1',
        'sallyport_upstream_ejections_total{target="10.0.0.1:80"} 1',
        'sallyport_policy_actions_total{endpoint="users",action="deny",outcome="respond"} 1',
        'sallyport_rate_limit_decisions_total{name="per-ip",decision="limited",mode="memory"} 1',
        'sallyport_waf_matches_total{rule="942100",phase="2"} 1',
        'sallyport_jwks_refresh_total{result="failure"} 1',
        'sallyport_log_dropped_total{log="access"} 7',
        'sallyport_upstream_healthy{target="10.0.0.1:80"} 1',
        'sallyport_config_reloads_total{result="refused"} 1',
        'sallyport_policy_duration_seconds_count{phase="on_tcp_connect"} 1',
      ]),
    )
  })

  test('a wrong number of labels is a fault of ours and throws', () => {
    expect(() => new Metrics().count('configReloads', [])).toThrow('takes 1 label')
  })
})

describe('summing over processes', () => {
  test('counters and gauges add up; the counters of a process that ended stay, its gauges go', () => {
    const one = new Metrics()
    const two = new Metrics()
    one.requestStarted()
    for (const metrics of [one, two]) {
      metrics.requestStarted()
      metrics.httpRequest('a', 'GET', 200, 1, 0, 1)
    }
    two.httpRequest('only-two', 'GET', 500, 1, 0, 1)
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'one', one)
    collect(aggregate, 'two', two)
    const total = 'sallyport_http_requests_total{endpoint="a",method="GET",code="200"}'
    expect(sample(aggregate, total)).toBe(2)
    expect(sample(aggregate, 'sallyport_http_requests_in_flight')).toBe(1)
    aggregate.retire('one')
    expect(sample(aggregate, total)).toBe(2)
    expect(sample(aggregate, 'sallyport_http_requests_in_flight')).toBe(0)
    const replacement = new Metrics()
    replacement.httpRequest('a', 'GET', 200, 1, 0, 1)
    collect(aggregate, 'one again', replacement)
    expect(sample(aggregate, total)).toBe(3)
    expect(sample(aggregate, 'sallyport_http_request_duration_seconds_count{endpoint="a"}')).toBe(3)
  })

  test('only new series are sent; repeated and late reports do no harm', () => {
    const metrics = new Metrics()
    metrics.jwksRefresh('success')
    const aggregate = new MetricsAggregate()
    const early = metrics.report(0)
    aggregate.update('a', early)
    metrics.jwksRefresh('failure')
    const next = metrics.report(aggregate.known('a'))
    expect(next.definitions).toHaveLength(1)
    aggregate.update('a', next)
    aggregate.update('a', metrics.report(0))
    expect(sample(aggregate, 'sallyport_jwks_refresh_total{result="success"}')).toBe(1)
    expect(sample(aggregate, 'sallyport_jwks_refresh_total{result="failure"}')).toBe(1)
    // one that skips ahead is not understood and is left out
    aggregate.update('b', { from: 5, definitions: [], values: new Float64Array(9) })
    expect(aggregate.known('b')).toBe(0)
  })
})

describe('O-49: the number of series is capped', () => {
  test('beyond the cap observations go to __other__ and are counted', () => {
    const metrics = new Metrics(100)
    for (let number = 0; number < 1000; number++) metrics.action(`endpoint-${number}`, 'deny', 'respond')
    metrics.httpRequest('late', 'GET', 200, 1, 0, 0)
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    const lines = samples(aggregate)
    expect(lines.length).toBeLessThan(150)
    const named = lines.filter((line) => /policy_actions_total\{endpoint="endpoint-/.test(line)).length
    expect(
      sample(aggregate, 'sallyport_policy_actions_total{endpoint="__other__",action="__other__",outcome="__other__"}'),
    ).toBe(1000 - named)
    expect(
      sample(aggregate, 'sallyport_http_requests_total{endpoint="__other__",method="__other__",code="__other__"}'),
    ).toBe(1)
    expect(sample(aggregate, 'sallyport_metrics_dropped_series_total')).toBeGreaterThanOrEqual(1000 - named)
  })

  test('the sum is capped as well, although each process stays below', () => {
    const aggregate = new MetricsAggregate(100)
    for (let process = 0; process < 4; process++) {
      const metrics = new Metrics(100)
      for (let number = 0; number < 50; number++) metrics.upstreamRetry(`reason-${process}-${number}`)
      collect(aggregate, String(process), metrics)
    }
    const lines = samples(aggregate)
    expect(lines.length).toBeLessThan(110)
    const total = lines
      .filter((line) => line.startsWith('sallyport_upstream_retries_total'))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    expect(total).toBe(200)
  })

  test('O-50: 10 000 series of 4 processes are summed and written in less than 50 ms of CPU time', () => {
    const aggregate = new MetricsAggregate()
    for (let worker = 0; worker < 4; worker++) {
      const metrics = new Metrics()
      for (let number = 0; number < MAX_SERIES; number++) metrics.upstreamRetry(`reason-${number}`)
      collect(aggregate, String(worker), metrics)
    }
    let bestMs = Infinity
    for (let round = 0; round < 5; round++) {
      const before = process.cpuUsage()
      const text = renderExposition(aggregate.sums(), 'prometheus')
      bestMs = Math.min(bestMs, process.cpuUsage(before).user / 1000)
      expect(text.length).toBeGreaterThan(400_000)
    }
    console.log(`10 000 series: ${bestMs.toFixed(1)} ms of CPU time`)
    expect(bestMs).toBeLessThan(50)
  })
})

describe('exposition', () => {
  test('Prometheus 0.0.4', () => {
    const metrics = new Metrics()
    metrics.count('configReloads', ['refu"sed\\\n'])
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    expect(renderExposition(aggregate.sums(), 'prometheus')).toContain(
      `# HELP sallyport_config_reloads_total Reloads asked for.
# TYPE sallyport_config_reloads_total counter
sallyport_config_reloads_total{result="refu\\"sed\\\\\\n"} 1
`,
    )
  })

  test('OpenMetrics: the family has no _total, le is a float, the text ends in # EOF', () => {
    const metrics = new Metrics()
    metrics.jwksRefresh('success')
    metrics.policyDuration('on_http_request', 1)
    const aggregate = new MetricsAggregate()
    collect(aggregate, 'a', metrics)
    const text = renderExposition(aggregate.sums(), 'openmetrics')
    expect(text).toContain('# TYPE sallyport_jwks_refresh counter\nsallyport_jwks_refresh_total{result="success"} 1\n')
    expect(text).toContain('le="1.0"} 1\n')
    expect(text).toContain('le="+Inf"} 1\n')
    expect(text.endsWith('\n# EOF\n')).toBe(true)
  })

  test.each([
    [undefined, 'prometheus'],
    ['*/*', 'prometheus'],
    ['text/plain', 'prometheus'],
    ['application/openmetrics-text', 'openmetrics'],
    [
      'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
      'openmetrics',
    ],
    ['application/openmetrics-text;q=0.1, text/plain;q=0.9', 'prometheus'],
    ['application/openmetrics-text;version=2.0.0, text/plain;q=0.1', 'prometheus'],
    ['application/openmetrics-text;q=0', 'prometheus'],
  ] as const)('Accept: %s → %s', (accept, format) => {
    expect(negotiateFormat(accept)).toBe(format)
  })
})
