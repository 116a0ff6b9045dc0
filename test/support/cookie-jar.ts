/** A browser's cookies without a browser: keeps them by host, sends them back, and can be tampered with. */
import { get, type Answer } from './start-gateway.ts'

export class CookieJar {
  /** Host without port → name → value. */
  readonly hosts = new Map<string, Map<string, string>>()
  /** Every `set-cookie` value so far. */
  readonly lines: string[] = []

  cookies(host = 'localhost'): Map<string, string> {
    let cookies = this.hosts.get(host)
    if (cookies === undefined) this.hosts.set(host, (cookies = new Map()))
    return cookies
  }

  /** One request; redirects are not followed. `headers` go on top of the cookies. */
  async ask(
    url: string,
    options: {
      readonly method?: string
      readonly body?: string
      readonly headers?: Readonly<Record<string, string>>
    } = {},
  ): Promise<Answer> {
    const { hostname } = new URL(url)
    const cookies = this.cookies(hostname)
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const form = options.body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }
    const answer = await get(url, {
      method: options.method ?? (options.body === undefined ? 'GET' : 'POST'),
      headers: { ...(cookie !== '' && { cookie }), ...form, ...options.headers },
      ...(options.body !== undefined && { body: options.body }),
    })
    for (const line of [answer.headers['set-cookie'] ?? []].flat()) {
      this.lines.push(line)
      const [pair = '', ...attributes] = line.split('; ')
      const at = pair.indexOf('=')
      const age = attributes.find((it) => it.toLowerCase().startsWith('max-age='))
      const expires = attributes.find((it) => it.toLowerCase().startsWith('expires='))
      const isGone =
        (age !== undefined && Number(age.slice(8)) <= 0) ||
        (expires !== undefined && Date.parse(expires.slice(8)) <= Date.now())
      if (isGone) cookies.delete(pair.slice(0, at))
      else cookies.set(pair.slice(0, at), pair.slice(at + 1))
    }
    return answer
  }

  /** Follows redirects until an answer is none, or leads to a URL for which `until` holds; that URL is not asked. */
  async follow(url: string, until: (url: string) => boolean = () => false): Promise<Answer & { readonly url: string }> {
    let at = url
    for (let hop = 0; hop < 20; hop++) {
      if (until(at)) return { status: 0, headers: {}, body: '', url: at }
      const answer = await this.ask(at)
      const location = answer.headers['location']
      if (answer.status < 300 || answer.status >= 400 || typeof location !== 'string') return { ...answer, url: at }
      at = new URL(location, at).href
    }
    throw new Error(`too many redirects, last ${at}`)
  }

  /** Fills in the provider's forms, from its login page until it sends the browser back; that URL is not asked. */
  async logInAtProvider(url: string, account: string): Promise<string> {
    const origin = new URL(url).origin
    const leaves = (it: string): boolean => new URL(it).origin !== origin
    let page = await this.follow(url, leaves)
    for (let form = 0; form < 3 && !leaves(page.url); form++) {
      const action = /<form[^>]*action="([^"]+)"/.exec(page.body)?.[1]
      const prompt = /name="prompt" value="(\w+)"/.exec(page.body)?.[1]
      if (action === undefined || prompt === undefined) throw new Error(`no form at ${page.url}:\n${page.body}`)
      const body = new URLSearchParams({ prompt, login: account, password: 'any' }).toString()
      const answer = await this.ask(new URL(action, page.url).href, { body })
      page = await this.follow(new URL(String(answer.headers['location']), page.url).href, leaves)
    }
    return page.url
  }
}
