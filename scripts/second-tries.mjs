/** A reporter of vitest's: names the tests that passed only at their second try, so that they are mended, not forgotten. */
export default class SecondTries {
  #names = []

  onTestCaseResult(test) {
    if (test.diagnostic()?.flaky === true) this.#names.push(`${test.module.relativeModuleId} > ${test.fullName}`)
  }

  onTestRunEnd() {
    for (const name of this.#names) process.stdout.write(`second try: ${name}\n`)
  }
}
