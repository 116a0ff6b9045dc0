/** Bodies both ways, over the native upstream pool: the same tests. */
import '../../support/wire-native.ts'
import './bodies.test.ts'
