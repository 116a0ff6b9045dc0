/**
 * Log lines of several processes on one pipe.
 *
 * Engine: none, no client connects to a listener.
 */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'

test('several processes on one pipe never tear each other’s lines', async () => {
  const script = `
    const { LineWriter } = await import(${JSON.stringify(new URL('../../../dist/access-log/line-writer.js', import.meta.url).href)})
    const writer = new LineWriter({ to: 1 })
    for (let n = 0; n < 3000; n++) {
      writer.write(process.argv[1].repeat(50 + (n * 37) % 3000) + '\\n', true)
      if (n % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await writer.close(10000)
  `
  const children = `for c in a b c; do ${JSON.stringify(process.execPath)} --input-type=module -e ${shellQuote(script)} $c & done; wait`
  const { stdout, status, stderr } = spawnSync('sh', ['-c', `( ${children} ) | cat`], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  })
  expect(stderr).toBe('')
  expect(status).toBe(0)
  const lines = stdout.trimEnd().split('\n')
  expect(lines).toHaveLength(9000)
  expect(lines.filter((line) => !/^(a+|b+|c+)$/.test(line)).length).toBe(0)
})

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
