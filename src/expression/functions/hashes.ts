/** Checksums and hashes. Source: traffic-policy.md §7.4; xxHash fast digest algorithm specification, XXH64; ECMA-182 and ISO 3309 for CRC. */
import { createHash } from 'node:crypto'
import { EvaluationError } from '../evaluation-error.ts'
import type { CelValue } from '../value.ts'
import { wantText } from './arguments.ts'
import type { FunctionTable } from './registry.ts'

export function defineHashFunctions(table: FunctionTable): void {
  const hashes: readonly (readonly [string, (bytes: Buffer) => Buffer])[] = [
    ['crc32', (bytes) => bigEndian(BigInt(crc32(bytes)), 4)],
    ['crc64', (bytes) => bigEndian(crc64(bytes), 8)],
    ['md5', (bytes) => createHash('md5').update(bytes).digest()],
    ['sha1', (bytes) => createHash('sha1').update(bytes).digest()],
    ['sha256', (bytes) => createHash('sha256').update(bytes).digest()],
    ['sha512', (bytes) => createHash('sha512').update(bytes).digest()],
    ['xxhash64', (bytes) => bigEndian(xxhash64(bytes), 8)],
  ]
  for (const [name, digest] of hashes) {
    const compute = (text: CelValue, format: CelValue | undefined): string => {
      const kind = format === undefined ? 'hex' : wantText(format, name)
      if (kind !== 'hex' && kind !== 'base64') throw new EvaluationError(`${name}: the format is 'hex' or 'base64'`)
      return digest(Buffer.from(wantText(text, name), 'utf8')).toString(kind)
    }
    const global = `hash.${name}`
    table.define(global, [`${global}(string) -> string`, `${global}(string, string) -> string`], (frame, a, b) => {
      frame.spend(16 + wantText(a, name).length)
      return compute(a, b)
    })
    table.define(name, [`string.${name}() -> string`, `string.${name}(string) -> string`], (frame, a, b) => {
      frame.spend(16 + wantText(a, name).length)
      return compute(a, b)
    })
  }
}

function bigEndian(value: bigint, size: 4 | 8): Buffer {
  return Buffer.from(value.toString(16).padStart(size * 2, '0'), 'hex')
}

/** Reflected polynomial of IEEE 802.3. */
const CRC32_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb8_8320 : value >>> 1
  return value >>> 0
})

function crc32(bytes: Uint8Array): number {
  let sum = 0xffff_ffff
  for (const byte of bytes) sum = (sum >>> 8) ^ CRC32_TABLE[(sum ^ byte) & 0xff]! // masked to the table
  return (sum ^ 0xffff_ffff) >>> 0
}

/** Reflected polynomial of ISO 3309, as Go's hash/crc64 calls it. */
const CRC64_POLYNOMIAL = 0xd800_0000_0000_0000n
const CRC64_TABLE: readonly bigint[] = Array.from({ length: 256 }, (_, index) => {
  let value = BigInt(index)
  for (let bit = 0; bit < 8; bit++) value = value & 1n ? (value >> 1n) ^ CRC64_POLYNOMIAL : value >> 1n
  return value
})
const MASK = (1n << 64n) - 1n

function crc64(bytes: Uint8Array): bigint {
  let sum = MASK
  for (const byte of bytes) sum = CRC64_TABLE[Number((sum ^ BigInt(byte)) & 0xffn)]! ^ (sum >> 8n) // masked to the table
  return sum ^ MASK
}

const PRIME1 = 0x9e37_79b1_85eb_ca87n
const PRIME2 = 0xc2b2_ae3d_27d4_eb4fn
const PRIME3 = 0x1656_67b1_9e37_79f9n
const PRIME4 = 0x85eb_ca77_c2b2_ae63n
const PRIME5 = 0x27d4_eb2f_1656_67c5n

function rotate(value: bigint, by: bigint): bigint {
  return ((value << by) | (value >> (64n - by))) & MASK
}

function round(accumulator: bigint, lane: bigint): bigint {
  return (rotate((accumulator + lane * PRIME2) & MASK, 31n) * PRIME1) & MASK
}

/** XXH64 with seed 0. */
function xxhash64(bytes: Buffer): bigint {
  let at = 0
  let hash: bigint
  if (bytes.length >= 32) {
    const lanes = [(PRIME1 + PRIME2) & MASK, PRIME2, 0n, -PRIME1 & MASK] as [bigint, bigint, bigint, bigint]
    for (; at + 32 <= bytes.length; at += 32) {
      for (let lane = 0; lane < 4; lane++) lanes[lane] = round(lanes[lane]!, bytes.readBigUInt64LE(at + lane * 8))
    }
    const [a, b, c, d] = lanes
    hash = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & MASK
    for (const lane of lanes) hash = ((hash ^ round(0n, lane)) * PRIME1 + PRIME4) & MASK
  } else {
    hash = PRIME5
  }
  hash = (hash + BigInt(bytes.length)) & MASK
  for (; at + 8 <= bytes.length; at += 8) {
    hash = (rotate(hash ^ round(0n, bytes.readBigUInt64LE(at)), 27n) * PRIME1 + PRIME4) & MASK
  }
  if (at + 4 <= bytes.length) {
    hash = (rotate(hash ^ ((BigInt(bytes.readUInt32LE(at)) * PRIME1) & MASK), 23n) * PRIME2 + PRIME3) & MASK
    at += 4
  }
  for (; at < bytes.length; at++) hash = (rotate(hash ^ ((BigInt(bytes[at]!) * PRIME5) & MASK), 11n) * PRIME1) & MASK
  hash = ((hash ^ (hash >> 33n)) * PRIME2) & MASK
  hash = ((hash ^ (hash >> 29n)) * PRIME3) & MASK
  return hash ^ (hash >> 32n)
}
