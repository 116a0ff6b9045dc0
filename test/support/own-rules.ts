/** A small rule set in the manner of CRS, so that tests of the gateway around the rules need none installed. */
import { fileURLToPath } from 'node:url'

/**
 * `attack` in an argument scores 5 (942001), `leak` in a page 4 (953001); 949110 and 959100 block; 980170 reports in phase
 * 5. No User-Agent scores 2 (920001).
 */
export const OWN_RULES: string = fileURLToPath(new URL('../golden/waf/rules', import.meta.url))
