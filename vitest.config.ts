import { defineConfig } from 'vitest/config'

/** unit mirrors src/ in process; integration starts real processes, one file at a time; conformance reads others' suites. */
export default defineConfig({
  test: {
    reporters: ['default', './scripts/second-tries.mjs'],
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 20_000, maxWorkers: 2 } },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          // real processes, sockets and clocks: what fails once and passes alone is named by scripts/second-tries.mjs
          retry: 1,
          // what comes about in its own time: a busy machine may need more of it than the default second
          expect: { poll: { timeout: 15_000 } },
        },
      },
      {
        test: {
          name: 'conformance',
          include: ['test/conformance/**/*.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
