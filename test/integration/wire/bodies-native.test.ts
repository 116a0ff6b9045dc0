/**
 * Bodies both ways, over the native upstream pool: the same tests.
 *
 * Engine: uws, the native one always has that pool.
 */
import '../../support/wire-native.ts'
import './bodies.test.ts'
