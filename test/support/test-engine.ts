/** The engine of every gateway that a test starts: SALLYPORT_TEST_ENGINE, `uws` when it is not set. */
import './head-limit.ts'
import { type Engine, type FrontEndCapabilities } from '../../src/listener/front-end.ts'
import { NATIVE_CAPABILITIES } from '../../src/listener/native/native-front-end.ts'
import { UWS_CAPABILITIES } from '../../src/listener/uws.ts'

export const testEngine: Engine = process.env.SALLYPORT_TEST_ENGINE === 'native' ? 'native' : 'uws'

/** What it can do: tests of more than that are skipped. */
export const testCapabilities: FrontEndCapabilities = testEngine === 'native' ? NATIVE_CAPABILITIES : UWS_CAPABILITIES
