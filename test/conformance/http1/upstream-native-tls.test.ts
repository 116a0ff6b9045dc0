/** Broken and hostile upstream answers, over TLS and the native upstream pool: the same cases, no deviation. */
import '../../support/wire-native-tls.ts'
import './upstream.test.ts'
