#!/usr/bin/env node
/** The command-line program of a checkout: `npm exec sallyport -- …`. Builds first when nothing is built yet. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root, setUp } from './set-up.mjs'

const main = join(root, 'dist', 'main.js')
if (!existsSync(main) || !existsSync(join(root, 'native', 'sallyport.node'))) setUp()
// main.js looks at its arguments as if it had been started itself
process.argv[1] = main
await import(pathToFileURL(main).href)
