/** What a leg came to, for the counts and for its target; of exchanges, and of requests that went up by a standing relay. */
import type { UpstreamFailure } from '../listener/front-end.ts'
import type { GatewayServices } from '../process/services.ts'
import type { EndpointUpstream } from '../routing/endpoints.ts'
import type { Member } from '../upstream/balancer.ts'

/** Where a leg goes. */
export interface Leg {
  readonly upstream: EndpointUpstream
  readonly member: Member
}

/** Its target has answered after so long; one that had been left out says so. `endpoint`: the name of the leg's. */
export function legAnswered(
  { metrics, logger }: GatewayServices,
  endpoint: string,
  { upstream, member }: Leg,
  status: number,
  elapsedMs: number,
): void {
  metrics.upstreamRequest(endpoint, member.target.name, status, elapsedMs)
  if (!upstream.group.answered(member, elapsedMs)) return
  logger.info({ endpoint, ...describeMember(member) }, 'target answers again')
}

/** Counts a failure after so long against its target; the one that puts the target out says so. */
export function legFailed(
  { metrics, logger }: GatewayServices,
  endpoint: string,
  { upstream, member }: Leg,
  { reason, detail }: UpstreamFailure,
  elapsedMs: number,
): void {
  if (!upstream.group.failed(member, reason, elapsedMs)) return
  metrics.upstreamEjection(member.target.name)
  logger.warn(
    { endpoint, ...describeMember(member), reason, error: detail },
    'target is left out after failures in a row',
  )
}

/** For logs. */
function describeMember({ target, address }: Member): { readonly target: string; readonly address?: string } {
  return address === '' ? { target: target.name } : { target: target.name, address }
}
