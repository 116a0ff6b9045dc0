/** The nearest known word for a misspelt one. Source: operations.md O-03 ("did you mean" when the distance is ≤ 2). */

/**
 * Edit distance in which a swap of two neighbours counts 1 (optimal string alignment).
 * Words longer than 64 characters are never compared: the answer is Infinity.
 */
export function editDistance(left: string, right: string): number {
  if (left.length > 64 || right.length > 64) return Infinity
  let before: number[] = []
  let above = Array.from({ length: right.length + 1 }, (_, column) => column)
  for (let row = 1; row <= left.length; row++) {
    const line = [row]
    for (let column = 1; column <= right.length; column++) {
      const same = left[row - 1] === right[column - 1]
      // every index read here was filled in this or an earlier step
      let cost = Math.min(above[column]! + 1, line[column - 1]! + 1, above[column - 1]! + (same ? 0 : 1))
      if (row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]) {
        cost = Math.min(cost, before[column - 2]! + 1)
      }
      line.push(cost)
    }
    before = above
    above = line
  }
  return above[right.length]!
}

/** The candidate within distance 2 (or that differs only in case, `_` and `-`), nearest first; undefined when none is. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const plain = simplified(word)
  let best: string | undefined
  let bestDistance = 3
  for (const candidate of candidates) {
    if (simplified(candidate) === plain) return candidate
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    // `on` is not a misspelt `ip`: something of the word must be left
    if (distance < bestDistance && distance < Math.min(word.length, candidate.length)) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function simplified(word: string): string {
  return word.toLowerCase().replace(/[-_ ]/g, '')
}
