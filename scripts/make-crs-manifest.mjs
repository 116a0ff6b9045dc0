/**
 * Writes the list of SHA-256 sums by which `sallyport crs install` checks a release of the Core Rule Set, file by file:
 * `node scripts/make-crs-manifest.mjs FOLDER VERSION > src/waf/crs-manifest.json`, FOLDER being an unpacked release.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const [folder, version] = process.argv.slice(2)
if (folder === undefined || version === undefined) {
  console.error('usage: node scripts/make-crs-manifest.mjs FOLDER VERSION')
  process.exit(2)
}
const files = {}
for (const name of [
  'LICENSE',
  'crs-setup.conf.example',
  ...readdirSync(join(folder, 'rules'))
    .sort()
    .map((file) => `rules/${file}`),
]) {
  files[name] = createHash('sha256')
    .update(readFileSync(join(folder, name)))
    .digest('hex')
}
console.log(JSON.stringify({ version, files }, null, 2))
