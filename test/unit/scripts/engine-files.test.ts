/** What is said of a test's engine must be so: else a file would be left out of the run with the other one. */
import { describe, expect, test } from 'vitest'
import { engineOf, filesOfEngines, integrationFiles } from '../../../scripts/engine-files.mjs'

describe('the engine of a test file', () => {
  test('stands in the head of the file, and nowhere else', () => {
    expect(engineOf('/**\n * Bodies.\n *\n * Engine: none, because.\n */\n')).toBe('none')
    expect(engineOf('/** Bodies. */\n/**\n * Engine: none, because.\n */\n')).toBeUndefined()
    expect(engineOf('/**\n * Engine: fast, because.\n */\n')).toBeUndefined()
  })

  test('every file without a word about it runs on both', () => {
    const files = filesOfEngines()
    expect(files.length).toBeGreaterThan(25)
    expect(files).toContain('test/integration/drills/drills.test.ts')
    expect(files).not.toContain('test/integration/process/primary.test.ts')
  })

  test.each(integrationFiles().flatMap(({ file, text }) => (engineOf(text) === undefined ? [] : [{ file, text }])))(
    '$file',
    ({ text }) => {
      const engine = engineOf(text)
      if (engine === 'none') expect(text).not.toMatch(/startGateway|startWireGateway|runPolicyCases|policy-cases/)
      if (engine === 'native') expect(text).toMatch(/engine: '?native|native-engine\.ts|new NativeFrontEnd/)
      if (engine === 'uws') expect(text).toMatch(/wire-native\.ts|demo\/main\.mjs/)
    },
  )
})
