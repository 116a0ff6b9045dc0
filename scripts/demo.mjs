/** `npm run demo`: installs what is missing, builds, and plays the demo. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { readOptions } from '../demo/options.mjs'
import { root, setUp } from './set-up.mjs'

readOptions()
setUp()
// a process of its own, because the packages it imports may have been installed a moment ago; it gets signals itself
const child = spawn(process.execPath, [join(root, 'demo', 'main.mjs'), ...process.argv.slice(2)], { stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 130)))
