/** Broken and hostile upstream answers, over the native upstream pool: the same cases, no deviation. */
import '../../support/wire-native.ts'
import './upstream.test.ts'
