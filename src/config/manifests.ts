/**
 * Kubernetes objects that describe endpoints: AgentEndpoint, CloudEndpoint and NgrokTrafficPolicy, read from files. A
 * Domain is checked and has no further effect.
 *
 * Source: kubernetes-objects.md §5.0–5.4 (fields, references, deprecated forms and their precedence).
 */
import { isDomain } from './address.ts'
import type { Diagnostics } from './diagnostic.ts'
import { readDocuments } from './document.ts'
import {
  endpointAddress,
  singleUpstream,
  type EndpointDefinition,
  type HostMap,
  type PolicyDocument,
} from './endpoint-definition.ts'
import type { ConfigNode, MapNode } from './node.ts'
import { readOrReport, type FileReader } from './reader.ts'
import {
  boolean,
  byKind,
  described,
  enumeration,
  INVALID,
  list,
  located,
  mapOf,
  object,
  optional,
  string,
  type InferSchema,
  type Located,
  type Schema,
} from './schema-kit.ts'
import { policyNode, type UpstreamTimerSettings } from './settings.ts'
import type { Span } from './source.ts'
import { nearest } from './spelling.ts'
import { substituteNames, type Substitutions } from './substitution.ts'
import type { UpstreamTraffic } from './upstream-settings.ts'

const headSchema = object(
  {
    apiVersion: located(string()),
    kind: located(string()),
    metadata: optional(
      object(
        { name: located(string({ minLength: 1, maxLength: 253 })), namespace: optional(string({ minLength: 1 })) },
        { open: true },
      ),
    ),
  },
  { open: true },
)

const reference = object(
  { name: located(string({ minLength: 1 })) },
  { hints: { namespace: 'a policy is looked for in the namespace of the endpoint' } },
)

/** A mapping of texts; a JSON text is accepted as well. */
const labels: Schema<unknown> = byKind({
  scalar: string({ maxLength: 4096, code: 'ERR_NGROK_18013' }),
  map: mapOf(string()),
})

const common = {
  url: located(string()),
  description: optional(string({ maxLength: 255, code: 'ERR_NGROK_18012' })),
  metadata: optional(labels),
  bindings: optional(list(located(string()), { max: 1, code: 'ERR_NGROK_15006' })),
}

const agentSpec = object(
  {
    ...common,
    upstream: described(
      object(
        {
          url: located(string()),
          protocol: optional(located(enumeration(['http1', 'http2'], { code: 'ERR_NGROK_15003' }))),
        },
        { hints: { proxyProtocolVersion: 'PROXY protocol towards upstreams is not available in this version' } },
      ),
      'Where requests go.',
    ),
    trafficPolicy: optional(
      located(
        object(
          { inline: optional(policyNode), targetRef: optional(reference) },
          { hints: { policy: 'in an AgentEndpoint the policy stands under inline' } },
        ),
      ),
    ),
    clientCertificateRefs: optional(located(list(object({ name: string(), namespace: optional(string()) })))),
  },
  {
    hints: {
      tlsTermination: 'TLS is not terminated for single endpoints here',
      poolingEnabled: 'an AgentEndpoint always pools',
      trafficPolicyName: 'write trafficPolicy: {targetRef: {name: …}}',
    },
  },
)

const cloudSpec = object(
  {
    ...common,
    poolingEnabled: optional(boolean()),
    trafficPolicyName: optional(located(string({ minLength: 1 }))),
    trafficPolicy: optional(
      located(object({ inline: optional(policyNode), targetRef: optional(reference), policy: optional(policyNode) })),
    ),
  },
  { hints: { upstream: 'a CloudEndpoint has none: its policy forwards to internal endpoints' } },
)

const policySpec = object({ policy: optional(policyNode) })

const pointsOfPresence = list(object({ value: string({ minLength: 1 }) }))

/** §5.4. Names and their certificates are found elsewhere: in urls, and under `listeners`. */
const domainSpec = object({
  domain: located(string({ minLength: 1 })),
  region: optional(string()),
  resolvesTo: optional(pointsOfPresence),
  resolves_to: optional(pointsOfPresence), // the older spelling
  reclaimPolicy: optional(enumeration(['Delete', 'Retain'])),
  description: optional(string({ maxLength: 255, code: 'ERR_NGROK_18012' })),
  metadata: optional(labels),
})

/** Fields beside `spec` that belong to the object but not to us. */
const OBJECT_KEYS = new Set(['apiVersion', 'kind', 'metadata', 'spec', 'status'])
type Kind = 'agent' | 'cloud' | 'policy' | 'domain'
const KINDS: Readonly<Record<string, Kind>> = {
  AgentEndpoint: 'agent',
  CloudEndpoint: 'cloud',
  NgrokTrafficPolicy: 'policy',
  TrafficPolicy: 'policy',
  Domain: 'domain',
}
const VERSIONS = ['ngrok.k8s.ngrok.com/v1alpha1', 'ngrok.com/v1']
/** The group of domains, in which older guides write their policies, too. */
const INGRESS_VERSION = 'ingress.k8s.ngrok.com/v1alpha1'
const DOMAIN_VERSIONS = [INGRESS_VERSION, 'ngrok.com/v1']
const SPECS = { agent: agentSpec, cloud: cloudSpec, policy: policySpec, domain: domainSpec }

/** What reading manifests needs of the rest of the configuration. */
export interface ManifestContext {
  readonly reader: FileReader
  readonly diagnostics: Diagnostics
  readonly substitutions: Substitutions
  readonly hosts: HostMap
  readonly timers: UpstreamTimerSettings
  /** Manifests cannot say anything of their own about it. */
  readonly traffic: UpstreamTraffic
}

/** Every endpoint of the files, in order. References are resolved over all files. */
export function readManifests(paths: readonly string[], context: ManifestContext): EndpointDefinition[] {
  const objects = new Objects(context)
  for (const path of paths) {
    const source = readOrReport(path, context.reader, context.diagnostics)
    if (source === undefined) continue
    for (const document of readDocuments(source, context.diagnostics) ?? []) objects.add(document)
  }
  return objects.endpoints()
}

interface Named {
  readonly namespace: string
  readonly name: string
  readonly span: Span
}

interface StoredPolicy extends Named {
  readonly node: MapNode | undefined
  used: boolean
}

type Pending = Named & { readonly spec: ConfigNode; readonly kind: 'agent' | 'cloud' }

class Objects {
  readonly #context: ManifestContext
  readonly #pending: Pending[] = []
  readonly #policies = new Map<string, StoredPolicy>()
  readonly #seen = new Map<string, Span>()

  constructor(context: ManifestContext) {
    this.#context = context
  }

  add(raw: ConfigNode): void {
    const { diagnostics, substitutions } = this.#context
    const kindText = raw.kind === 'map' ? raw.entries.find((entry) => entry.key === 'kind')?.value : undefined
    if (raw.kind === 'map' && kindText?.kind === 'scalar' && kindText.text.endsWith('List')) {
      const items = raw.entries.find((entry) => entry.key === 'items')?.value
      if (items?.kind === 'list') for (const item of items.items) this.add(item)
      return
    }
    const known = kindText?.kind === 'scalar' && Object.hasOwn(KINDS, kindText.text)
    const document = known ? substituteNames(raw, substitutions, diagnostics) : raw
    const head = headSchema.parse(document, diagnostics, 'the object')
    if (head === INVALID || document.kind !== 'map') return
    const kind = Object.hasOwn(KINDS, head.kind.value) ? KINDS[head.kind.value] : undefined
    if (kind === undefined) {
      const near = nearest(head.kind.value, Object.keys(KINDS))
      const hint = near === undefined ? `read are ${Object.keys(KINDS).join(', ')}` : `did you mean ${near}?`
      diagnostics.warning('UNKNOWN_KIND', `objects of kind ${head.kind.value} are not read`, head.kind.span, hint)
      return
    }
    const spec = this.#specOf(kind, head.apiVersion, document)
    if (head.metadata === undefined) {
      diagnostics.error('MISSING_KEY', 'missing key metadata.name', head.kind.span)
      return
    }
    const { name } = head.metadata
    this.#store(kind, { namespace: head.metadata.namespace ?? 'default', name: name.value, span: name.span }, spec)
  }

  /** The `spec`, with what published manifests put beside it by mistake; undefined when there is neither. */
  #specOf(kind: Kind, version: Located<string>, document: MapNode): ConfigNode | undefined {
    const { diagnostics } = this.#context
    const versions = kind === 'domain' ? DOMAIN_VERSIONS : VERSIONS
    if (version.value === INGRESS_VERSION && kind === 'policy') {
      diagnostics.warning('OLD_API_VERSION', `this kind now stands in ${VERSIONS[0]}`, version.span)
    } else if (!versions.includes(version.value)) {
      const text = `apiVersion must be ${versions.join(' or ')}, not ${JSON.stringify(version.value)}`
      diagnostics.error('UNKNOWN_API_VERSION', text, version.span)
    }
    const misplaced = []
    for (const entry of document.entries) {
      if (OBJECT_KEYS.has(entry.key)) continue
      if (Object.hasOwn(SPECS[kind].fields ?? {}, entry.key)) {
        diagnostics.warning(
          'MISPLACED_KEY',
          `${entry.key} belongs under spec; it is read as if it stood there`,
          entry.keySpan,
        )
        misplaced.push(entry)
        continue
      }
      const near = nearest(entry.key, OBJECT_KEYS)
      const hint = near === undefined ? 'the fields of the object stand under spec' : `did you mean ${near}?`
      diagnostics.error('UNKNOWN_KEY', `unknown key ${entry.key} in the object`, entry.keySpan, hint)
    }
    const spec = document.entries.find((entry) => entry.key === 'spec')?.value
    const [first] = misplaced
    if (first === undefined) return spec
    if (spec?.kind !== 'map') return spec ?? { kind: 'map', entries: misplaced, span: first.keySpan }
    const own = new Set(spec.entries.map((entry) => entry.key))
    return { ...spec, entries: [...spec.entries, ...misplaced.filter((entry) => !own.has(entry.key))] }
  }

  #store(kind: Kind, named: Named, spec: ConfigNode | undefined): void {
    const { diagnostics } = this.#context
    const identity = `${kind} ${named.namespace}/${named.name}`
    const first = this.#seen.get(identity)
    if (first !== undefined) {
      const related = { message: 'the other one', span: first }
      const text = `two objects of one kind have the name ${named.name}`
      diagnostics.error('DUPLICATE_OBJECT', text, named.span, undefined, related)
      return
    }
    this.#seen.set(identity, named.span)
    if (spec === undefined) {
      diagnostics.error('MISSING_KEY', `missing key spec in ${named.name}`, named.span)
      return
    }
    if (kind === 'domain') {
      this.#checkDomain(spec)
      return
    }
    if (kind !== 'policy') {
      this.#pending.push({ ...named, kind, spec })
      return
    }
    const parsed = policySpec.parse(spec, diagnostics, 'spec')
    const node =
      parsed === INVALID ? undefined : (parsed.policy ?? { kind: 'map' as const, entries: [], span: spec.span })
    this.#policies.set(`${named.namespace}/${named.name}`, { ...named, node, used: false })
  }

  #checkDomain(spec: ConfigNode): void {
    const { diagnostics } = this.#context
    const { domain } = domainSpec.parseParts(spec, diagnostics, 'spec').value
    if (domain === undefined || isDomain(domain.value)) return
    const text = `${JSON.stringify(domain.value)} is not a domain`
    const hint = 'write the name alone: shop.example.org or *.example.org, without scheme, port and path'
    diagnostics.error('INVALID_DOMAIN', text, domain.span, hint)
  }

  endpoints(): EndpointDefinition[] {
    const definitions = this.#pending.map((it) => (it.kind === 'agent' ? this.#agent(it) : this.#cloud(it)))
    for (const policy of this.#policies.values()) {
      if (policy.used) continue
      const text = `no endpoint refers to the policy ${policy.name}: it has no effect and is not checked`
      this.#context.diagnostics.warning('UNUSED_POLICY', text, policy.span)
    }
    return definitions
  }

  #agent(it: Pending): EndpointDefinition {
    const { diagnostics } = this.#context
    const { value: spec } = agentSpec.parseParts(it.spec, diagnostics, 'spec')
    const address = endpointAddress(spec.url, spec.bindings, 'agent', diagnostics)
    const policy = this.#inlineOrReference(spec.trafficPolicy, it, true)
    const { upstream, clientCertificateRefs } = spec
    if (clientCertificateRefs !== undefined) {
      const text = `${it.name} wants client certificates shown to its upstream, which is not done`
      diagnostics.notServed('UPSTREAM_NOT_SERVED', text, clientCertificateRefs.span)
    }
    return {
      ...this.#common(it),
      ...address,
      pooling: true, // the operator always creates them so (§4)
      policy,
      upstream: upstream && singleUpstream(upstream, address.url, this.#context),
    }
  }

  #cloud(it: Pending): EndpointDefinition {
    const { diagnostics } = this.#context
    const { value: spec, valid } = cloudSpec.parseParts(it.spec, diagnostics, 'spec')
    const address = endpointAddress(spec.url, spec.bindings, 'cloud', diagnostics)
    const policy = this.#cloudPolicy(spec, it)
    // an empty policy is reported by whoever compiles it; here only that there is none
    if (policy === undefined && valid && spec.trafficPolicy === undefined && spec.trafficPolicyName === undefined) {
      const hint = 'write trafficPolicy: {inline: …} or trafficPolicy: {targetRef: {name: …}}'
      diagnostics.error('ERR_NGROK_18011', `the CloudEndpoint ${it.name} has no traffic policy`, it.span, hint)
    }
    return { ...this.#common(it), ...address, pooling: spec.poolingEnabled ?? false, policy }
  }

  #common(it: Pending): Pick<EndpointDefinition, 'name' | 'kind' | 'span'> {
    return { name: it.namespace === 'default' ? it.name : `${it.namespace}/${it.name}`, kind: it.kind, span: it.span }
  }

  /** §5.2: `inline` and `targetRef` before `policy`; `trafficPolicyName` only without `trafficPolicy`. */
  #cloudPolicy(spec: Partial<InferSchema<typeof cloudSpec>>, it: Pending): PolicyDocument | undefined {
    const { diagnostics } = this.#context
    const { trafficPolicy, trafficPolicyName } = spec
    if (trafficPolicyName !== undefined) {
      if (trafficPolicy === undefined) return this.#referred(trafficPolicyName, it)
      const related = { message: 'the other one', span: trafficPolicy.span }
      const text = 'give either trafficPolicy or trafficPolicyName'
      diagnostics.error(
        'POLICY_GIVEN_TWICE',
        text,
        trafficPolicyName.span,
        'trafficPolicyName is the older form',
        related,
      )
    }
    const forms = trafficPolicy?.value
    if (forms?.policy === undefined) return this.#inlineOrReference(trafficPolicy, it, false)
    if (forms.inline === undefined && forms.targetRef === undefined) return { node: forms.policy, origin: 'manifest' }
    const text = 'trafficPolicy.policy is not read where inline or targetRef is given'
    diagnostics.warning('POLICY_NOT_READ', text, forms.policy.span)
    return this.#inlineOrReference(trafficPolicy, it, false)
  }

  #inlineOrReference(
    given:
      | Located<{ readonly inline: MapNode | undefined; readonly targetRef: InferSchema<typeof reference> | undefined }>
      | undefined,
    it: Pending,
    exactlyOne: boolean,
  ): PolicyDocument | undefined {
    if (given === undefined) return undefined
    const { inline, targetRef } = given.value
    const { diagnostics } = this.#context
    if (inline !== undefined && targetRef !== undefined) {
      diagnostics.error('POLICY_GIVEN_TWICE', 'give either inline or targetRef', targetRef.name.span)
    }
    if (inline !== undefined) return { node: inline, origin: 'manifest' }
    if (targetRef !== undefined) return this.#referred(targetRef.name, it)
    const code = exactlyOne ? 'MISSING_KEY' : 'ERR_NGROK_18011'
    const start = { ...given.span, end: Math.min(given.span.end, given.span.start + 1) }
    diagnostics.error(code, 'trafficPolicy needs inline or targetRef', start)
    return undefined
  }

  #referred(name: Located<string>, it: Pending): PolicyDocument | undefined {
    const { diagnostics } = this.#context
    const policy = this.#policies.get(`${it.namespace}/${name.value}`)
    if (policy !== undefined) {
      policy.used = true
      return policy.node && { node: policy.node, origin: 'manifest' }
    }
    const here = [...this.#policies.values()].filter((other) => other.namespace === it.namespace)
    const near = nearest(
      name.value,
      here.map((other) => other.name),
    )
    const elsewhere = [...this.#policies.values()].find((other) => other.name === name.value)
    const hint =
      near !== undefined
        ? `did you mean ${near}?`
        : elsewhere === undefined
          ? 'its manifest must be among the files under manifests'
          : `there is one in the namespace ${elsewhere.namespace}; references never leave their namespace`
    const text = `there is no NgrokTrafficPolicy ${name.value} in the namespace ${it.namespace}`
    diagnostics.error('POLICY_NOT_FOUND', text, name.span, hint)
    return undefined
  }
}
