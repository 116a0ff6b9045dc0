/**
 * Whether work grows with its input in step. Times say nothing on a busy machine; what the same work costs in CPU time
 * for one input and for one eight times as long, measured in turns, does: 8 for linear work, 64 for quadratic.
 */
const TIMES = 8
const ROUNDS = 5

/**
 * Throws when eight times the input costs more than `most` times the CPU time (default 24).
 *
 * @param makeInput for a factor of 1 or 8; its own cost is not measured
 */
export function expectLinear<T>(
  makeInput: (times: number) => T,
  work: (input: T) => unknown,
  { most = 24 }: { readonly most?: number } = {},
): void {
  const small = makeInput(1)
  const large = makeInput(TIMES)
  work(small)
  work(large)
  let [smallUs, largeUs] = [Infinity, Infinity]
  for (let round = 0; round < ROUNDS; round++) {
    // the small one as often as it takes for both to do the same number of bytes
    smallUs = Math.min(smallUs, cpuUs(() => repeat(TIMES, () => work(small))) / TIMES)
    largeUs = Math.min(
      largeUs,
      cpuUs(() => work(large)),
    )
    // work too small for the clock is no worse than linear
    if (largeUs <= most * Math.max(smallUs, 100)) return
  }
  throw new Error(`${TIMES} times the input took ${(largeUs / smallUs).toFixed(1)} times the CPU time`)
}

function repeat(times: number, work: () => unknown): void {
  for (let time = 0; time < times; time++) work()
}

function cpuUs(work: () => void): number {
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return user + system
}
