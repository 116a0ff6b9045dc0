/** `npm run generate`: files written from the code that defines their content. `--check` compares instead. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { fail, root, setUp } from './set-up.mjs'

setUp()
const load = (path) => import(pathToFileURL(join(root, 'dist', path)).href)
const { gatewayJsonSchema } = await load('config/json-schema.js')
const { policyJsonSchema } = await load('policy/json-schema.js')
const { ACTIONS } = await load('actions/index.js')
const { withActionReference } = await load('policy/action-reference.js')

const files = {
  'config/gateway.schema.json': gatewayJsonSchema(policyJsonSchema()),
  'config/policy.schema.json': policyJsonSchema(),
}

for (const action of new Set(ACTIONS.values())) {
  const path = `docs/actions/${action.type}.md`
  if (!existsSync(join(root, path))) fail(`${path} is missing: every action has a page`)
  files[path] = withActionReference(readFileSync(join(root, path), 'utf8'), action)
}

for (const [path, content] of Object.entries(files)) {
  const text = typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`
  const target = join(root, path)
  if (!process.argv.includes('--check')) writeFileSync(target, text)
  else if (!existsSync(target) || readFileSync(target, 'utf8') !== text)
    fail(`${path} is out of date: run npm run generate`)
}
