/** `sallyport waf explain`: the verb. What it does is waf-explain.ts. */
import { UsageError } from './arguments.ts'
import { CONFIG_FLAG, STATE_DIR_FLAG, type Verb } from './verb.ts'

export const wafVerb: Verb = {
  name: 'waf',
  aliases: [],
  summary:
    'Replay a saved request: which rules fire on what, the score, the outcome, and what to paste against each match.',
  operands: { usage: 'explain', min: 1, max: 1 },
  flags: {
    request: {
      type: 'text',
      value: 'FILE',
      only: 'command-line',
      meaning: 'The request as it goes over the wire, with its body; - reads standard input.',
    },
    response: {
      type: 'text',
      value: 'FILE',
      only: 'command-line',
      meaning: 'The response to it, likewise.',
    },
    ...CONFIG_FLAG,
    ...STATE_DIR_FLAG,
    policy: {
      type: 'text',
      value: 'FILE',
      only: 'command-line',
      meaning: 'Traffic policy whose owasp-crs actions apply, instead of an endpoint of the configuration.',
    },
    endpoint: {
      type: 'text',
      value: 'NAME',
      only: 'command-line',
      meaning: 'Endpoint whose policy applies. Default: the one that the Host of the request names.',
    },
    rules: {
      type: 'text',
      value: 'DIR',
      only: 'command-line',
      meaning: 'Folder of a core rule set, instead of waf.rules.',
    },
    client: {
      type: 'text',
      value: 'ADDRESS',
      only: 'command-line',
      meaning: 'Address the request comes from. Default: 192.0.2.1.',
    },
    json: { type: 'switch', only: 'command-line', meaning: 'One JSON object instead of text.' },
    'show-secrets': {
      type: 'switch',
      only: 'command-line',
      meaning: 'Show matched cookies, credentials and tokens, which are *** otherwise.',
    },
  },
  notes: [
    'Without a policy both directions are judged with their bodies, and nothing is excluded. Exclusions of targets were tried out: each takes its match away.',
    'Exits 0 when the request could be judged, whatever came of it.',
  ],
  run: async (given, surroundings) => {
    if (given.operands[0] !== 'explain') throw new UsageError(`waf knows \`explain\`, not ${given.operands[0]}`)
    // loaded here only: no other verb needs policies and rules in this process
    const { runExplain } = await import('./waf-explain.ts')
    return await runExplain(given, surroundings)
  },
}
