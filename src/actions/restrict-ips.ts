/**
 * `restrict-ips`: permits a client whose address lies in at least one allow range and in no deny range; others get 403
 * (ERR_NGROK_3203), or lose their connection in `on_tcp_connect`. Publishes `restrict_ips.*`.
 *
 * Tests `conn.client_ip` only. Source: traffic-policy.md §5.22.
 */
import type { TextSource } from '../config/node.ts'
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import { type Cidr, inCidr, parseAddress, parseCidr } from '../exchange/cidr.ts'
import type { Template } from '../expression/template.ts'
import { NEXT } from '../phase/outcome.ts'
import type { PolicyScope } from '../policy/scope.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action, CompileContext } from './action.ts'

interface Config {
  readonly enforce: boolean
  readonly allow: readonly TextSource[]
  readonly deny: readonly TextSource[]
  readonly ip_policies: readonly TextSource[]
}

type Range = { readonly cidr: Cidr } | { readonly template: Template }

interface Plan {
  readonly enforce: boolean
  readonly allow: readonly Range[]
  readonly deny: readonly Range[]
}

const ranges = policyKit.list(policyKit.text())

export const restrictIps: Action<Config, Plan> = {
  type: 'restrict-ips',
  phases: ['on_tcp_connect', 'on_http_request', 'on_http_response'],
  configRequired: false,
  schema: policyKit.object(
    {
      enforce: described(
        withDefault(policyKit.boolean(), true),
        'false: only the result says what would have happened.',
      ),
      allow: described(withDefault(ranges, []), 'Addresses and CIDR ranges that may pass; may hold `${…}`.'),
      deny: described(withDefault(ranges, []), 'Ranges that may not, whatever `allow` says.'),
      ip_policies: described(
        withDefault(ranges, []),
        'IP policies of an ngrok account: `check` takes them, `run` does not.',
      ),
    },
    { allowNull: true },
  ),
  compile(config, context) {
    for (const policy of config.ip_policies) {
      const hint = 'write its ranges under allow and deny'
      const text = 'IP policies are objects of an ngrok account, which only ngrok has'
      context.diagnostics.notServed('IP_POLICY_NOT_SERVED', text, policy.span, hint)
    }
    if (config.ip_policies.length > 0) return undefined
    if (config.allow.length === 0) {
      const hint = 'add 0.0.0.0/0 and ::/0 to allow, if deny shall be the only test'
      context.diagnostics.warning(
        'RESTRICT_IPS_ALLOWS_NOBODY',
        'without an allow range nobody is permitted',
        context.span,
        hint,
      )
    }
    const allow = compileRanges(config.allow, context)
    const deny = compileRanges(config.deny, context)
    return allow && deny && { enforce: config.enforce, allow, deny }
  },
  run(plan, exchange) {
    if (permitted(plan, exchange) || !plan.enforce) return NEXT
    throw new GatewayError('IP_RESTRICTED')
  },
  runOnConnect(plan, scope) {
    let allowed: boolean
    try {
      allowed = permitted(plan, scope)
    } catch {
      // a range that cannot be computed fails closed
      allowed = false
    }
    return allowed || !plan.enforce ? NEXT : { kind: 'close', reason: 'denied:restrict-ips' }
  },
}

function compileRanges(sources: readonly TextSource[], context: CompileContext): Range[] | undefined {
  const compiled: Range[] = []
  for (const source of sources) {
    const template = context.template(source)
    if (template === undefined) continue
    if (template.constant === undefined) {
      compiled.push({ template })
      continue
    }
    const cidr = parseCidr(template.constant.trim())
    if (cidr === null) {
      context.diagnostics.error('ERR_NGROK_2217', `${JSON.stringify(source.text)} is not an address range`, source.span)
    } else compiled.push({ cidr })
  }
  return compiled.length === sources.length ? compiled : undefined
}

function permitted(plan: Plan, scope: PolicyScope): boolean {
  const address = parseAddress(scope.connection.clientAddress)
  const denied = address === null ? undefined : firstMatch(plan.deny, address, scope)
  const allowed = address === null || denied !== undefined ? undefined : firstMatch(plan.allow, address, scope)
  scope.setResult('restrict_ips', {
    action: allowed === undefined ? 'deny' : 'allow',
    matched_cidr: (denied ?? allowed)?.text ?? '',
    // also where it is not enforced: policies under test log it
    ...(allowed === undefined && {
      error: { code: 'ERR_NGROK_3203', message: `${scope.connection.clientAddress} is not permitted` },
    }),
  })
  return allowed !== undefined
}

function firstMatch(list: readonly Range[], address: Uint8Array, scope: PolicyScope): Cidr | undefined {
  for (const range of list) {
    const cidr = 'cidr' in range ? range.cidr : renderCidr(range.template, scope)
    if (inCidr(address, cidr)) return cidr
  }
  return undefined
}

/** `allow` and `deny` are security-relevant: a value that is no range fails closed (§4). */
function renderCidr(template: Template, scope: PolicyScope): Cidr {
  let text: string
  try {
    text = template.render(scope).trim()
  } catch (error) {
    throw new GatewayError('INTERPOLATION_FAILED', { cause: error })
  }
  const cidr = parseCidr(text)
  if (cidr === null) throw new GatewayError('INTERPOLATION_FAILED', { cause: `${text} is not an address range` })
  return cidr
}
