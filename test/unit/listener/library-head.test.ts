/** Memory that is not what the library's is taken to be is never read a second time. */
import { expect, test, vi } from 'vitest'
import type { HttpRequest, HttpResponse } from '../../../src/listener/library.ts'
import { WIRE_LIMITS } from '../../support/wire-gateway.ts'

test('an object without a pointer of the library is read field by field, and so is everything after it', async () => {
  vi.resetModules()
  const { readUsualHead, readsLibraryMemory } = await import('../../../src/listener/library-head.ts')
  const calls: string[] = []
  const request = {
    getCaseSensitiveMethod: () => 'GET',
    getUrl: () => '/',
    getQuery: () => undefined,
    forEach: (take: (name: string, value: string) => void) => {
      calls.push('forEach')
      take('host', 'a')
    },
  } as unknown as HttpRequest
  for (let count = 0; count < 20; count++) {
    expect(readUsualHead(request, {} as unknown as HttpResponse, WIRE_LIMITS)).toBeUndefined()
  }
  expect(calls).toEqual(['forEach'])
  expect(readsLibraryMemory()).toBe(false)
})
