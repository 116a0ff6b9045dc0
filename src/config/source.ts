/** Source texts and places in them: what every configuration error points into. */

/** One text as it was read. Offsets are UTF-16 code units into `text`. */
export class SourceFile {
  readonly path: string
  readonly text: string
  #lineStarts: number[] | undefined

  constructor(path: string, text: string) {
    this.path = path
    this.text = text
  }

  /** Line and column of an offset, both counted from 1. */
  position(offset: number): { line: number; column: number } {
    const starts = this.#starts()
    let low = 0
    let high = starts.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      // `middle` stays within the array, so the element exists
      if (starts[middle]! <= offset) low = middle
      else high = middle - 1
    }
    return { line: low + 1, column: offset - starts[low]! + 1 }
  }

  /** The offset of a line and column, both counted from 1; clamped to the text. */
  offset(line: number, column: number): number {
    const start = this.#starts()[line - 1] ?? this.text.length
    return Math.min(start + Math.max(0, column - 1), this.text.length)
  }

  /** The text of a line (from 1) without its line end. */
  line(number: number): string {
    const starts = this.#starts()
    const start = starts[number - 1]
    if (start === undefined) return ''
    const end = starts[number] ?? this.text.length + 1
    return this.text.slice(start, end - 1).replace(/\r$/, '')
  }

  #starts(): number[] {
    if (this.#lineStarts === undefined) {
      const starts = [0]
      for (let at = this.text.indexOf('\n'); at !== -1; at = this.text.indexOf('\n', at + 1)) starts.push(at + 1)
      this.#lineStarts = starts
    }
    return this.#lineStarts
  }
}

/** A half-open range of a source text. */
export interface Span {
  readonly source: SourceFile
  readonly start: number
  readonly end: number
}
