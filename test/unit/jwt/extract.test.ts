import { describe, expect, it } from 'vitest'
import { bodyForm, tokenFromBody, tokenFromHeader } from '../../../src/jwt/extract.ts'

const headers = (...values: string[]): { all(name: string): readonly string[] } => ({
  all: (name) => (name === 'authorization' ? values : []),
})

describe('a token in a header', () => {
  it.each([
    ['Bearer a.b.c', 'a.b.c'],
    ['BEARER a.b.c', 'a.b.c'],
    ['bearer  a.b.c', ' a.b.c'], // more blanks are part of the token, which its form then refuses
    ['Bearer a.b.c, Bearer d.e.f', 'a.b.c, Bearer d.e.f'],
  ])('%j', (value, token) => {
    expect(tokenFromHeader(headers(value), 'Authorization', 'Bearer ')).toEqual({ kind: 'found', token })
  })

  it('needs no prefix when none is configured', () => {
    expect(tokenFromHeader(headers('a.b.c'), 'AUTHORIZATION', '')).toEqual({ kind: 'found', token: 'a.b.c' })
  })

  it.each([
    ['no header', [], 'ERR_NGROK_3408', false],
    ['an empty header', [''], 'ERR_NGROK_3413', false],
    ['the scheme alone', ['Bearer'], 'ERR_NGROK_3413', true],
    ['the scheme and nothing', ['Bearer '], 'ERR_NGROK_3406', false],
    ['another scheme', ['Basic dXNlcjpwYXNz'], 'ERR_NGROK_3413', true],
    ['no scheme', ['a.b.c'], 'ERR_NGROK_3413', true],
    ['a tab', ['Bearer\ta.b.c'], 'ERR_NGROK_3413', true],
    ['a colon', ['Bearer: a.b.c'], 'ERR_NGROK_3413', true],
    ['two headers (T-55)', ['Bearer a.b.c', 'Bearer a.b.c'], 'ERR_NGROK_3416', true],
    ['a good one and another scheme', ['Bearer a.b.c', 'Basic x'], 'ERR_NGROK_3416', true],
  ])('is not there: %s', (_name, values, code, presented) => {
    expect(tokenFromHeader(headers(...values), 'Authorization', 'Bearer ')).toMatchObject({
      kind: 'absent',
      code,
      presented,
    })
  })
})

describe('a token in a body', () => {
  it.each([
    ['POST', 'application/json', 'json'],
    ['PUT', 'Application/JSON; charset=utf-8', 'json'],
    ['PATCH', 'application/x-www-form-urlencoded', 'form'],
  ])('is looked for: %s %s', (method, type, form) => {
    expect(bodyForm(method, type)).toBe(form)
  })

  it.each([
    ['GET', 'application/json', 'ERR_NGROK_3415'],
    ['DELETE', 'application/json', 'ERR_NGROK_3415'],
    ['POST', 'text/plain', 'ERR_NGROK_3414'],
    ['POST', 'application/jsonp', 'ERR_NGROK_3414'],
    ['POST', undefined, 'ERR_NGROK_3414'],
  ])('is not looked for: %s %s', (method, type, code) => {
    expect(bodyForm(method, type)).toMatchObject({ kind: 'absent', code, presented: false })
  })

  it.each([
    ['json', '{"Token":"a.b.c","x":1}', { kind: 'found', token: 'a.b.c' }],
    ['form', 'x=1&ToKeN=a.b.c', { kind: 'found', token: 'a.b.c' }],
    ['form', 'token=a%2eb%2ec', { kind: 'found', token: 'a.b.c' }],
    ['json', '{"x":1}', { code: 'ERR_NGROK_3406', presented: false }],
    ['json', '{"token":7}', { code: 'ERR_NGROK_3416' }],
    ['json', '{"token":"a","TOKEN":"b"}', { code: 'ERR_NGROK_3416', presented: true }],
    ['json', '{"token":"a","token":"b"}', { code: 'ERR_NGROK_3411' }],
    ['json', '["token"]', { code: 'ERR_NGROK_3411' }],
    ['json', '{"token":', { code: 'ERR_NGROK_3411' }],
    ['form', 'x=1', { code: 'ERR_NGROK_3406' }],
    ['form', 'token', { code: 'ERR_NGROK_3406' }],
    ['form', 'token=a&token=b', { code: 'ERR_NGROK_3416' }],
    ['form', 'token=%zz', { code: 'ERR_NGROK_3412' }],
    ['form', 'token=%ff', { code: 'ERR_NGROK_3412' }],
  ] as const)('%s %s', (form, body, expected) => {
    expect(tokenFromBody(form, Buffer.from(body), 'tokeN', '')).toMatchObject(expected)
  })

  it('has its prefix taken off', () => {
    const body = Buffer.from('{"token":"bearer a.b.c"}')
    expect(tokenFromBody('json', body, 'token', 'Bearer ')).toEqual({ kind: 'found', token: 'a.b.c' })
  })

  it('is not read from bytes that are no UTF-8', () => {
    expect(tokenFromBody('json', Buffer.from([0x22, 0xff, 0x22]), 'token', '')).toMatchObject({
      code: 'ERR_NGROK_3411',
    })
  })
})
