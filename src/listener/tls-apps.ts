/**
 * The library's apps behind one TLS listener: one that owns the listen socket and hands every connection on, and one
 * that serves, for each set of certificates.
 *
 * The library can take a certificate from an app, but it frees what connections under that name still use. So the app
 * that serves is replaced as a whole: new connections go to the new one, the old one ends with its last connection.
 *
 * The library tells a connection's server name only by the name a certificate was added under. Names are therefore
 * added as they are asked for, up to a bound; beyond it wildcards are added as such, and the exact name stays unknown.
 * It verifies clients by what the default certificate of an app says, for all names alike.
 *
 * Source: RFC 6066 §3; RFC 8446 §4.4.2.2; operations.md F-17.
 */
import { nameCovers } from '../config/certificate.ts'
import type { ListenCertificate, ListenTls, PreparedTls } from './front-end.ts'
import { createSslApp, type SslApp } from './library.ts'
import { type NamelessFile, namelessFile } from './nameless-file.ts'

/** What all connections with one server name have in common. */
export interface ServerNameFacts {
  /** '' = the client named none, or one that no certificate is for. */
  readonly serverName: string
  readonly certificate: ListenCertificate
  /** What clients are verified against; '' = they are not asked for a certificate. */
  readonly clientAuthorities: string
}

/**
 * Registers the routes for connections with one name. The app is set to that name. `left` is to be called when a connection
 * ends that has become a WebSocket: the library does not tell its filters.
 */
export type Attach = (app: SslApp, facts: ServerNameFacts, left: () => void) => void

/** Names that clients ask for and only a wildcard covers; each costs a TLS context. */
const MAX_LEARNED_NAMES = 1024
/** The library keeps no names with more labels. */
const MAX_LABELS = 10
const ASKED_NAME = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}))*$/
/** Connections that are handed on arrive a turn of the loop later; an app must not end before. */
const RETIRE_AFTER_MS = 1000

export class TlsApps {
  /** Listens; never serves. */
  readonly acceptor: SslApp
  readonly #attach: Attach
  readonly #onConnection: (app: SslApp) => void
  #serving: Generation
  readonly #old = new Set<Generation>()

  /** Throws an `Error` with one sentence when a certificate cannot be used. */
  constructor(tls: ListenTls, attach: Attach, onConnection: (app: SslApp) => void) {
    this.#attach = attach
    this.#onConnection = onConnection
    this.#serving = new Generation(tls, attach, onConnection)
    this.acceptor = this.#serving.bare()
    this.acceptor.addChildAppDescriptor(this.#serving.app.getDescriptor())
  }

  /** Throws like the constructor. */
  prepare(tls: ListenTls): PreparedTls {
    const next = new Generation(tls, this.#attach, this.#onConnection)
    return {
      commit: () => {
        const before = this.#serving
        this.acceptor.addChildAppDescriptor(next.app.getDescriptor())
        this.acceptor.removeChildAppDescriptor(before.app.getDescriptor())
        this.#serving = next
        this.#old.add(before)
        before.retire(() => this.#old.delete(before))
      },
      abort: () => next.close(),
    }
  }

  /** Closes everything, connections included. */
  close(): void {
    this.acceptor.close()
    this.#serving.close()
    for (const generation of this.#old) generation.close()
  }
}

/** One set of certificates. */
class Generation {
  readonly app: SslApp
  readonly #tls: ListenTls
  readonly #files: readonly CertificateFiles[]
  readonly #authorities: NamelessFile | undefined
  readonly #attach: Attach
  readonly #names = new Map<string, number>()
  readonly #wildcards: { readonly name: string; readonly certificate: number }[] = []
  #learned = 0
  #connections = 0
  #isClosed = false
  #whenEmpty: (() => void) | undefined

  constructor(tls: ListenTls, attach: Attach, onConnection: (app: SslApp) => void) {
    this.#tls = tls
    this.#attach = attach
    this.#files = tls.certificates.map((certificate) => new CertificateFiles(certificate))
    this.#authorities = tls.clientAuthorities === undefined ? undefined : namelessFile(tls.clientAuthorities)
    try {
      // the library says nothing about a name whose certificate it cannot use: each is tried as a default one before
      for (let index = tls.certificates.length - 1; index > 0; index--) this.#create(index).close()
      this.app = this.#create(0)
    } catch (error) {
      this.#closeFiles()
      throw error
    }
    const { app } = this
    attach(app, this.#facts('', 0), this.#left)
    app.filter((_res, count) => {
      if (count < 0) this.#left()
      else this.#connections++
    })
    onConnection(app)
    for (const [index, { names }] of tls.certificates.entries()) {
      for (const name of names) {
        if (name.startsWith('*.')) this.#wildcards.push({ name, certificate: index })
        else if (!this.#names.has(name)) this.#add(name, name, index)
      }
    }
    app.missingServerName((asked) => this.#asked(asked))
  }

  readonly #left = (): void => {
    this.#connections--
    if (this.#connections === 0) this.#whenEmpty?.()
  }

  /** An app without routes, for a listen socket. */
  bare(): SslApp {
    return this.#create(0)
  }

  /** Ends when its last connection does. */
  retire(ended: () => void): void {
    const end = (): void => {
      if (this.#connections > 0) return
      // not inside the library's call about a connection
      setImmediate(() => {
        if (this.#connections > 0) return
        this.close()
        ended()
      })
    }
    setTimeout(() => {
      this.#whenEmpty = end
      end()
    }, RETIRE_AFTER_MS).unref()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.app.close()
    this.#closeFiles()
  }

  #create(index: number): SslApp {
    const { certificate, key } = this.#files[index]!
    try {
      return createSslApp({
        cert_file_name: certificate.path,
        key_file_name: key.path,
        ...(this.#authorities === undefined ? {} : { ca_file_name: this.#authorities.path }),
      })
    } catch {
      // it says no more than that construction failed
      const names = this.#tls.certificates[index]!.names.join(', ')
      const text = `uWebSockets.js cannot use the certificate for ${names || 'no name'}: its kind of key is not supported`
      throw new Error(text)
    }
  }

  /** A client asks for a name that was not added yet. Runs inside its handshake. */
  #asked(asked: string): void {
    const name = asked.toLowerCase()
    if (this.#isClosed || asked.length > 253 || !ASKED_NAME.test(asked) || asked.split('.').length > MAX_LABELS) return
    const index =
      this.#names.get(name) ?? this.#wildcards.find((wildcard) => nameCovers(wildcard.name, name))?.certificate
    if (index === undefined) return
    if (this.#learned < MAX_LEARNED_NAMES) {
      this.#learned++
      this.#add(asked, name, index)
    } else if (this.#learned === MAX_LEARNED_NAMES) {
      this.#learned++
      for (const wildcard of this.#wildcards) this.#add(wildcard.name, '', wildcard.certificate)
    }
  }

  #add(spelling: string, serverName: string, index: number): void {
    const { certificate, key } = this.#files[index]!
    this.app.addServerName(spelling, {
      cert_file_name: certificate.path,
      key_file_name: key.path,
      ...(this.#authorities === undefined ? {} : { ca_file_name: this.#authorities.path }),
    })
    this.app.domain(spelling)
    this.#attach(this.app, this.#facts(serverName, index), this.#left)
    if (serverName !== '') this.#names.set(serverName, index)
  }

  #facts(serverName: string, index: number): ServerNameFacts {
    const certificate = this.#tls.certificates[index]!
    return { serverName, certificate, clientAuthorities: this.#tls.clientAuthorities ?? '' }
  }

  #closeFiles(): void {
    for (const files of this.#files) files.close()
    this.#authorities?.close()
  }
}

class CertificateFiles {
  readonly certificate: NamelessFile
  readonly key: NamelessFile

  constructor({ chain, key }: ListenCertificate) {
    this.certificate = namelessFile(chain)
    this.key = namelessFile(key)
  }

  close(): void {
    this.certificate.close()
    this.key.close()
  }
}
