import { describe, expect, it, vi } from 'vitest'
import { brotliDecompressSync, constants, gunzipSync, gzipSync, inflateSync, deflateRawSync } from 'node:zlib'
import { compressor, decompressor, negotiateCoding } from '../../../src/body/content-coding.ts'
import { chainFilters, throughFilter } from '../../../src/body/filter-chain.ts'

const ALL = ['gzip', 'deflate', 'br'] as const

describe('RFC 9110 §12.5.3 Accept-Encoding', () => {
  it.each([
    [undefined, undefined],
    ['', undefined],
    ['gzip', 'gzip'],
    ['GZip ; Q=0.5', 'gzip'],
    ['x-gzip', 'gzip'],
    ['br, gzip', 'gzip'], // alike: our order
    ['gzip;q=0.5, br;q=0.8', 'br'],
    ['gzip;q=1.0, br; q=0.5, *;q=0', 'gzip'],
    ['*', 'gzip'],
    ['*;q=0', undefined],
    ['gzip;q=0, *', 'deflate'],
    ['gzip;q=0, deflate;q=0.000, br;q=0', undefined],
    ['zstd, compress', undefined],
    ['identity', undefined],
    ['identity;q=0.5, gzip;q=0.4', undefined],
    ['identity;q=0.5, gzip', 'gzip'],
    ['identity;q=0, br;q=0.001', 'br'],
    ['gzip;q=2', undefined],
    ['gzip;q=abc, br;q=0.1', 'br'],
    [',, gzip ,', 'gzip'],
  ])('%s → %s', (accept, wanted) => {
    expect(negotiateCoding(accept, ALL)).toBe(wanted)
  })

  it('the order of the policy decides between equals, and only what it names is chosen', () => {
    expect(negotiateCoding('gzip, br', ['br', 'gzip'])).toBe('br')
    expect(negotiateCoding('gzip', ['br'])).toBeUndefined()
  })
})

describe('compression as a filter', () => {
  const decode = { gzip: gunzipSync, deflate: inflateSync, br: brotliDecompressSync }
  const text = 'the same words, again and again. '.repeat(5000)

  it.each(ALL)('%s: what comes out is the body', async (coding) => {
    const bytes = await throughFilter(compressor(coding, false), Buffer.from(text))
    expect(bytes.length).toBeLessThan(text.length / 10)
    expect(decode[coding](bytes).toString()).toBe(text)
  })

  it.each(ALL)('%s: with flushes each piece can be read when it has come', async (coding) => {
    const out: Uint8Array[] = []
    let isFinished = false
    const filter = compressor(coding, true)
    filter.attach({
      output: (chunk) => void out.push(chunk),
      ready: () => {},
      finished: () => (isFinished = true),
      broken: () => {},
    })
    const finishFlush = coding === 'br' ? constants.BROTLI_OPERATION_FLUSH : constants.Z_SYNC_FLUSH
    let written = ''
    for (const piece of ['data: one\n\n', 'data: two\n\n', 'data: three\n\n']) {
      filter.write(Buffer.from(piece))
      written += piece
      // the stream is not ended: only a flush brings the piece out
      await vi.waitFor(
        () => expect(decode[coding](Buffer.concat(out), { finishFlush }).toString()).toBe(written),
        10_000,
      )
    }
    expect(isFinished).toBe(false)
    filter.end()
    await vi.waitFor(() => expect(isFinished).toBe(true), 10_000)
    expect(decode[coding](Buffer.concat(out)).toString()).toBe(written)
  })

  it('an empty body is a whole one of the coding', async () => {
    expect(gunzipSync(await throughFilter(compressor('gzip', false), new Uint8Array(0)))).toHaveLength(0)
  })
})

describe('decompression as a filter', () => {
  it('takes off what is put on, also deflate without its header', async () => {
    const bytes = Buffer.from('some text '.repeat(1000))
    for (const coding of ALL) {
      const packed = await throughFilter(compressor(coding, false), bytes)
      expect(Buffer.from(await throughFilter(decompressor(coding)!(), packed)).equals(bytes)).toBe(true)
    }
    expect(Buffer.from(await throughFilter(decompressor('Deflate')!(), deflateRawSync(bytes))).equals(bytes)).toBe(true)
  })

  it('knows no others, and no stacks', () => {
    expect(decompressor('zstd')).toBeUndefined()
    expect(decompressor('gzip, br')).toBeUndefined()
  })

  it('says that bytes are not what they should be', async () => {
    await expect(throughFilter(decompressor('gzip')!(), Buffer.from('plain'))).rejects.toThrow(/header/)
    const cut = gzipSync('text '.repeat(100)).subarray(0, -9)
    await expect(throughFilter(decompressor('gzip')!(), cut)).rejects.toThrow(/end of file/)
  })

  it('T-21: a small piece that grows a thousandfold is held back while the sink takes nothing', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024))
    const filter = decompressor('gzip')!()
    let bytes = 0
    filter.attach({
      output: (chunk) => {
        bytes += chunk.length
        filter.pause()
      },
      ready: () => {},
      finished: () => {},
      broken: () => {},
    })
    filter.write(bomb)
    await vi.waitFor(() => expect(bytes).toBeGreaterThan(0), 10_000)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(bytes).toBeLessThan(1024 * 1024)
    filter.close()
  })
})

describe('chains', () => {
  it('a filter that is full holds up the one before it, and lets it go on', async () => {
    const body = Buffer.from(Array.from({ length: 300_000 }, (_, at) => String(at)).join(' '))
    const packed = gzipSync(body)
    const again = await throughFilter(chainFilters([decompressor('gzip')!(), compressor('gzip', false)]), packed)
    expect(gunzipSync(again).equals(body)).toBe(true)
  })

  it('one that breaks ends the chain', async () => {
    const chain = chainFilters([decompressor('br')!(), compressor('gzip', false)])
    await expect(throughFilter(chain, Buffer.from('not brotli at all'))).rejects.toThrow()
  })
})
