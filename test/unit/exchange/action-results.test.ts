import { expect, test } from 'vitest'
import { ActionResults } from '../../../src/exchange/action-results.ts'

test('a result is made when it is first asked for, once', () => {
  const results = new ActionResults()
  let made = 0
  results.set('lazy', () => {
    made += 1
    return { made }
  })
  results.set('plain', 'text')
  expect(made).toBe(0)
  expect(results.get('lazy')).toEqual({ made: 1 })
  expect([...results]).toEqual([
    ['lazy', { made: 1 }],
    ['plain', 'text'],
  ])
  expect(made).toBe(1)
  expect(results.get('none')).toBeUndefined()
  results.set('lazy', null)
  expect([...results]).toEqual([
    ['lazy', null],
    ['plain', 'text'],
  ])
})
