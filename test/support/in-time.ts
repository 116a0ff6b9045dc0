/** Bounds on waiting that a busy machine does not break: two timers of one process are late together. */

/** What a promise came to, and whether it did before a timer of `ms` that began with it. */
export async function inTime<T>(ms: number, promise: Promise<T>): Promise<{ value: T; isInTime: boolean }> {
  let isInTime = true
  const timer = setTimeout(() => {
    isInTime = false
  }, ms)
  try {
    const value = await promise
    return { value, isInTime }
  } finally {
    clearTimeout(timer)
  }
}
