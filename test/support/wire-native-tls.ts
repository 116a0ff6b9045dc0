/** Import before a wire suite: its gateways then use the native upstream pool, and its upstreams speak TLS. */
import './wire-native.ts'
import { makeCertificate } from './certificates.ts'
import { echoTls } from './echo-upstream.ts'

echoTls.material = makeCertificate({
  names: 'IP:127.0.0.1,IP:::1,DNS:localhost,DNS:a,DNS:b,DNS:full',
})
