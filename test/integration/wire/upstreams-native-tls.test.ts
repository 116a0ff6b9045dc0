/** Misbehaving upstreams, over TLS and the native upstream pool: the same tests. */
import '../../support/wire-native-tls.ts'
import './upstreams.test.ts'
