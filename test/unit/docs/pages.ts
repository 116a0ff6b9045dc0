/** The written pages of the project, and the parts of Markdown that tests look at. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

export function text(path: string): string {
  return readFileSync(ROOT + path, 'utf8')
}

/** Every page a reader may come to, relative to the root. */
export const PAGES: readonly string[] = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...readdirSync(`${ROOT}docs`, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
  ...readdirSync(`${ROOT}config/examples`).map((name) => `config/examples/${name}/README.md`),
]

export interface CodeBlock {
  readonly language: string
  readonly code: string
}

export function codeBlocks(page: string): CodeBlock[] {
  return [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map((match) => ({
    language: match[1]!, // both groups always take part
    code: match[2]!,
  }))
}

/** Text between single back-ticks, outside of blocks. */
export function codeSpans(page: string): string[] {
  return [...page.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!)
}

/** Cells of every table row whose first cell begins with a code span. */
export function rows(page: string): string[][] {
  return page
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    )
}

/** The part of a page under a heading, to the next heading of its level or above. */
export function section(page: string, heading: string): string {
  const lines = page.split('\n')
  const start = lines.findIndex((line) => line.replace(/^#+ /, '') === heading && line.startsWith('#'))
  if (start === -1) throw new Error(`no heading ${heading}`)
  const level = /^#+/.exec(lines[start]!)![0].length
  const length = lines.slice(start + 1).findIndex((line) => new RegExp(`^#{1,${level}} `).test(line))
  return lines.slice(start + 1, length === -1 ? undefined : start + 1 + length).join('\n')
}

/** Where a heading is linked to. */
export function anchors(page: string): Set<string> {
  const headings = [...page.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.+)$/gm)]
  return new Set(
    headings.map((match) =>
      match[1]!
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  )
}
