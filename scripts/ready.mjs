/** `npm run ready`: everything that CI runs, in its order. */
import { root, run } from './set-up.mjs'

run('bash', ['.ci/run'], { cwd: root })
