/** What every exchange of a worker shares: made once by `worker.ts`, outlives every configuration. */
import type { AccessLog, Logger } from '../access-log/logger.ts'
import type { MatchLog } from '../access-log/match-log.ts'
import type { JwtService } from '../jwt/service.ts'
import type { OpenidClients } from '../login/openid.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { ExternalRequests } from '../outbound/external.ts'
import type { RateLimitStore } from '../rate-limit/store.ts'
import type { ThreadPool } from '../threads/pool.ts'
import type { UpstreamPool } from '../upstream/upstream-pool.ts'

export interface GatewayServices {
  readonly logger: Logger
  readonly accessLog: AccessLog
  readonly matchLog: MatchLog
  readonly metrics: Metrics
  readonly rateLimits: RateLimitStore
  readonly jwt: JwtService
  readonly openid: OpenidClients
  readonly threads: ThreadPool
  /** Connections to upstreams. */
  readonly upstreams: UpstreamPool
  /** Requests to hosts outside. */
  readonly external: ExternalRequests
  /** Names this gateway in Via, the same in all its workers (H-57). */
  readonly instanceId: string
}
