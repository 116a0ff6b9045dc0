/** Refusals and framing, over the native upstream pool: the same tests. */
import '../../support/wire-native.ts'
import './framing.test.ts'
