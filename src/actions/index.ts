/** Every action there is: one line each, nothing registers itself. */
import { type RegisteredAction, register } from './action.ts'
import { addHeaders } from './add-headers.ts'
import { aiGateway } from './ai-gateway.ts'
import { basicAuth } from './basic-auth.ts'
import { circuitBreaker } from './circuit-breaker.ts'
import { closeConnection } from './close-connection.ts'
import { compressResponse } from './compress-response.ts'
import { customResponse } from './custom-response.ts'
import { deny } from './deny.ts'
import { forwardInternal } from './forward-internal.ts'
import { httpRequest } from './http-request.ts'
import { jwtValidation } from './jwt-validation.ts'
import { log } from './log.ts'
import { oauth } from './oauth.ts'
import { openidConnect } from './openid-connect.ts'
import { owaspCrsRequest } from './owasp-crs-request.ts'
import { owaspCrsResponse } from './owasp-crs-response.ts'
import { rateLimit } from './rate-limit.ts'
import { redirect } from './redirect.ts'
import { removeHeaders } from './remove-headers.ts'
import { requestBodyFindReplace } from './request-body-find-replace.ts'
import { responseBodyFindReplace } from './response-body-find-replace.ts'
import { restrictIps } from './restrict-ips.ts'
import { saml } from './saml.ts'
import { setVars } from './set-vars.ts'
import { sseFindReplace } from './sse-find-replace.ts'
import { terminateTls } from './terminate-tls.ts'
import { urlRewrite } from './url-rewrite.ts'
import { verifyWebhook } from './verify-webhook.ts'

export const ACTIONS: ReadonlyMap<string, RegisteredAction> = byType([
  register(addHeaders),
  register(aiGateway),
  register(basicAuth),
  register(circuitBreaker),
  register(closeConnection),
  register(compressResponse),
  register(customResponse),
  register(deny),
  register(forwardInternal),
  register(httpRequest),
  register(jwtValidation),
  register(log),
  register(oauth),
  register(openidConnect),
  register(owaspCrsRequest),
  register(owaspCrsResponse),
  register(rateLimit),
  register(redirect),
  register(removeHeaders),
  register(requestBodyFindReplace),
  register(responseBodyFindReplace),
  register(restrictIps),
  register(saml),
  register(setVars),
  register(sseFindReplace),
  register(terminateTls),
  register(urlRewrite),
  register(verifyWebhook),
])

/** The proper name of an action, however it is spelled: an alias, or with underscores as in old documents (§11). */
export function actionName(written: string): string {
  const hyphened = written.replaceAll('_', '-')
  return ACTIONS.get(written)?.type ?? ACTIONS.get(hyphened)?.type ?? hyphened
}

function byType(actions: readonly RegisteredAction[]): ReadonlyMap<string, RegisteredAction> {
  const known = new Map<string, RegisteredAction>()
  for (const action of actions) {
    for (const type of [action.type, ...action.aliases]) {
      if (known.has(type)) throw new Error(`two actions are called ${type}`)
      known.set(type, action)
    }
    if (action.servesConnections !== action.phases.includes('on_tcp_connect')) {
      throw new Error(`${action.type} must say how it runs on a connection, and that it may`)
    }
  }
  return known
}
