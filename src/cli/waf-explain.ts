/** `sallyport waf explain`: from files and flags to an explanation. The judging is waf/explain.ts. */
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { renderDiagnostic } from '../config/diagnostic.ts'
import { DiskReader, loadConfiguration, type EndpointDefinition, type LoadedConfiguration } from '../config/load.ts'
import { NativeAddonError } from '../native/addon.ts'
import { RuleSetError } from '../native/rule-set.ts'
import { compilePolicy } from '../policy/compile.ts'
import { parsePolicy } from '../policy/parse.ts'
import { reportRuleErrors } from '../process/snapshot.ts'
import { defaultStateDir } from '../process/state-dir.ts'
import { explain } from '../waf/explain.ts'
import { type MessageFile, readMessage } from '../waf/message-file.ts'
import type { WafOptions, WafProfile } from '../waf/profiles.ts'
import { installedRulesFolder, readRuleFiles } from '../waf/rule-files.ts'
import { UsageError, type Arguments } from './arguments.ts'
import { configurationInput } from './configuration.ts'
import { EXIT, type Surroundings } from './verb.ts'
import { explanationJson, explanationText } from './waf-explanation.ts'

const DEFAULT_CLIENT = '192.0.2.1'

/** Resolves with the exit code. Throws UsageError for flags that make no sense. */
export async function runExplain(given: Arguments, { out, err }: Surroundings): Promise<number> {
  const requestPath = given.text('request')
  if (requestPath === undefined) throw new UsageError('--request FILE is missing')
  const clientAddress = given.text('client') ?? DEFAULT_CLIENT
  if (isIP(clientAddress) === 0) throw new UsageError(`--client is an address, not ${JSON.stringify(clientAddress)}`)
  const reader = new DiskReader()
  const loaded = load(given, reader)
  const { settings, diagnostics } = loaded
  const refused = (): number => {
    for (const diagnostic of diagnostics.all) err(`${renderDiagnostic(diagnostic)}\n`)
    return EXIT.failure
  }
  const requestFile = readMessage(requestPath, 'request', diagnostics)
  const responsePath = given.text('response')
  const responseFile = responsePath === undefined ? undefined : readMessage(responsePath, 'response', diagnostics)
  if (diagnostics.hasErrors || requestFile === undefined) return refused()
  const chosen = choosePolicy(given, loaded, requestFile)
  if (diagnostics.hasErrors || chosen === undefined) return refused()
  const folder = settings.waf.rules ?? installedRulesFolder(resolve(settings.stateDir ?? defaultStateDir()))
  const sources = readRuleFiles(settings.waf, folder, reader, diagnostics)
  if (sources === undefined || diagnostics.hasErrors) return refused()
  try {
    const explanation = await explain({
      settings: settings.waf,
      sources,
      request: chosen.request,
      response: chosen.response,
      requestFile,
      responseFile,
      clientAddress,
    })
    const shown = {
      explanation,
      settings: settings.waf,
      requestFile,
      responseFile,
      policy: chosen.source,
      notes: [...requestFile.notes, ...(responseFile?.notes ?? []), ...chosen.notes, ...explanation.notes],
      showSecrets: given.switch('show-secrets') === true,
    }
    out(given.switch('json') === true ? explanationJson(shown) : explanationText(shown))
    return EXIT.ok
  } catch (error) {
    if (error instanceof NativeAddonError) {
      err(`sallyport: ${error.message}\n`)
      return EXIT.failure
    }
    if (!(error instanceof RuleSetError)) throw error
    reportRuleErrors(error, sources, diagnostics)
    return refused()
  }
}

/** The configuration, where there is one; a policy or rules alone will do. */
function load(given: Arguments, reader: DiskReader): LoadedConfiguration {
  const input = configurationInput(given)
  const policy = given.text('policy')
  const rules = given.text('rules')
  const overrides = [
    ...(input.overrides ?? []),
    ...(rules === undefined ? [] : [{ key: 'waf.rules', text: resolve(rules), origin: '--rules' }]),
  ]
  const inline = {
    name: EXPLAINED,
    upstream: 'http://127.0.0.1:9',
    url: 'http://explained.invalid',
    ...(policy === undefined ? {} : { trafficPolicyFile: policy }),
  }
  if (policy !== undefined) return loadConfiguration({ ...input, overrides, inline }, reader)
  const loaded = loadConfiguration({ ...input, overrides }, reader)
  const hasNone = input.files.length === 0 && loaded.diagnostics.all.some(({ code }) => code === 'NO_CONFIGURATION')
  return hasNone ? loadConfiguration({ ...input, overrides, inline }, reader) : loaded
}

/** Name of the endpoint that stands for `--policy`. */
const EXPLAINED = 'explained'

interface ChosenPolicy {
  readonly request: WafOptions | undefined
  readonly response: WafOptions | undefined
  /** What to call it. */
  readonly source: string
  readonly notes: readonly string[]
}

const EVERYTHING: WafOptions = { processBody: true, excludeRuleIds: [], enforce: true }

/** Undefined after errors. */
function choosePolicy(given: Arguments, loaded: LoadedConfiguration, request: MessageFile): ChosenPolicy | undefined {
  const { endpoints, diagnostics } = loaded
  const policy = given.text('policy')
  const wanted = policy === undefined ? given.text('endpoint') : EXPLAINED
  if (wanted !== undefined) {
    const named = endpoints.find(({ name }) => name === wanted)
    if (named === undefined) {
      const names = endpoints.map(({ name }) => name).join(', ')
      diagnostics.error('UNKNOWN_ENDPOINT', `there is no endpoint ${wanted}`, undefined, `the endpoints are ${names}`)
      return undefined
    }
    const found = optionsOf(named, loaded, policy ?? `of endpoint ${wanted}`)
    if (found === undefined) {
      diagnostics.error('NO_WAF_ACTION', `the policy of ${policy ?? wanted} has no owasp-crs action`)
    }
    return found
  }
  const host = (request.field('host') ?? '').replace(/:\d+$/, '').toLowerCase()
  const withActions = endpoints.flatMap((endpoint) => {
    const found = optionsOf(endpoint, loaded, `of endpoint ${endpoint.name}`)
    return found === undefined ? [] : [{ endpoint, found }]
  })
  const byHost = withActions.find(({ endpoint }) => isNamedBy(endpoint, host))
  const chosen = byHost ?? (withActions.length === 1 ? withActions[0] : undefined)
  if (chosen !== undefined) return chosen.found
  if (withActions.length > 1) {
    const names = withActions.map(({ endpoint }) => endpoint.name).join(', ')
    const text = `no endpoint with owasp-crs actions answers at ${host === '' ? 'a request without Host' : host}`
    diagnostics.error('NO_WAF_ACTION', text, undefined, `choose one with --endpoint: ${names}`)
    return undefined
  }
  return {
    request: EVERYTHING,
    response: EVERYTHING,
    source: 'none: bodies are judged, nothing is excluded',
    notes: [],
  }
}

function isNamedBy({ url }: EndpointDefinition, host: string): boolean {
  return url.host === host || (url.host.startsWith('*.') && host.endsWith(url.host.slice(1)))
}

/** What the owasp-crs actions of an endpoint say; undefined when it has none. */
function optionsOf(
  { name, policy, url }: EndpointDefinition,
  { settings, diagnostics }: LoadedConfiguration,
  source: string,
): ChosenPolicy | undefined {
  if (policy === undefined) return undefined
  const parsed = parsePolicy(policy.node, diagnostics)
  const { scheme } = url
  const { waf } = compilePolicy(parsed, { settings, diagnostics, identity: name, scheme, mustTerminate: false })
  const requests = waf.all.filter((profile: WafProfile) => profile.request !== undefined)
  const responses = waf.all.filter((profile: WafProfile) => profile.request === undefined)
  if (requests.length + responses.length === 0) return undefined
  const several = (count: number, action: string): string[] =>
    count > 1 ? [`the policy has ${count} ${action} actions: the first one is explained`] : []
  return {
    request: requests[0]?.request,
    response: responses[0]?.response,
    source,
    notes: [...several(requests.length, 'owasp-crs-request'), ...several(responses.length, 'owasp-crs-response')],
  }
}
