/**
 * `custom-response`: answers instead of the upstream, or replaces the upstream's answer. Terminating; the response
 * rules of the same policy still run on what it makes. Publishes nothing. Source: traffic-policy.md §5.6.
 */
import type { TextSource } from '../config/node.ts'
import { described, optional, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Template } from '../expression/template.ts'
import { isBodiless } from '../response/status-line.ts'
import type { Action } from './action.ts'
import { compileHeaders, headerLines, headerMap, type HeaderPlan } from './header-values.ts'

interface Config {
  readonly status_code: number
  readonly body: TextSource | undefined
  readonly headers: ReadonlyMap<string, TextSource> | undefined
}

interface Plan {
  readonly status: number
  readonly body: Template | undefined
  readonly headers: readonly HeaderPlan[]
  /** The content type of a constant body, inferred once; empty when the configuration names one. */
  readonly contentType: string | undefined
}

export const customResponse: Action<Config, Plan> = {
  type: 'custom-response',
  aliases: ['custom_response'],
  phases: ['on_http_request', 'on_http_response'],
  configRequired: false,
  schema: policyKit.object(
    {
      status_code: described(withDefault(policyKit.integer({ min: 100, max: 599 }), 200), 'Status of the answer.'),
      body: described(
        optional(policyKit.text()),
        'Body; may hold `${…}`. The content type is inferred where no header names it.',
      ),
      headers: described(optional(headerMap()), 'Header fields; values may hold `${…}`.'),
    },
    { allowNull: true, aliases: { content: 'body' } },
  ),
  terminates: () => true,
  compile(config, context) {
    const headers = config.headers === undefined ? [] : compileHeaders(config.headers, context)
    const body = config.body === undefined ? undefined : context.template(config.body)
    if (headers === undefined || (config.body !== undefined && body === undefined)) return undefined
    if (isBodiless(config.status_code) && config.body !== undefined && config.body.text !== '') {
      context.diagnostics.error('ERR_NGROK_3604', `status ${config.status_code} cannot carry a body`, config.body.span)
      return undefined
    }
    if (config.status_code < 200) {
      // an interim answer cannot be the only one (RFC 9110 §15.2)
      context.diagnostics.error('ERR_NGROK_2215', `status ${config.status_code} is not a final answer`, context.span)
      return undefined
    }
    const named = headers.some((header) => header.name === 'content-type')
    const constant = body === undefined ? '' : body.constant
    return {
      status: config.status_code,
      body,
      headers,
      contentType: named ? '' : constant === undefined ? undefined : inferContentType(constant),
    }
  },
  run(plan, exchange) {
    const body = renderBody(plan, exchange)
    const type = plan.contentType ?? inferContentType(body)
    const contentType = type === '' || body === '' ? '' : `content-type: ${type}\r\n`
    return {
      kind: 'respond',
      status: plan.status,
      lines: contentType + headerLines(plan.headers, exchange),
      body,
      reason: 'ok',
      responsePhase: true,
    }
  },
}

function renderBody(plan: Plan, exchange: Exchange): string {
  if (plan.body === undefined) return ''
  if (plan.body.constant !== undefined) return plan.body.constant
  try {
    return plan.body.render(exchange)
  } catch (error) {
    exchange.interpolationFailed('body', error)
    return ''
  }
}

const HTML_TAG =
  /^<(?:a|article|body|br|div|form|h[1-6]|head|html|img|main|p|pre|script|section|span|style|table|title|ul)[\s/>]/i

/** §5.6: JSON object or array, HTML, XML, else plain text. */
export function inferContentType(body: string): string {
  const text = body.trimStart()
  if (text.startsWith('{') || text.startsWith('[')) {
    try {
      JSON.parse(text)
      return 'application/json'
    } catch {
      // looks like JSON and is not: plain text below
    }
  }
  if (/^<!doctype html/i.test(text) || HTML_TAG.test(text)) return 'text/html; charset=utf-8'
  if (text.startsWith('<?xml')) return 'application/xml'
  return 'text/plain; charset=utf-8'
}
