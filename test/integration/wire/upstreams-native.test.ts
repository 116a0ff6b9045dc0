/** Misbehaving upstreams, over the native upstream pool: the same tests. */
import '../../support/wire-native.ts'
import './upstreams.test.ts'
