/** Certificates made when a test runs, by openssl; none is kept. */
import { execFileSync, spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Undefined when certificates can be made; else why not, as a line for the report. */
export const opensslSkipReason: string | undefined =
  spawnSync('openssl', ['version']).status === 0
    ? undefined
    : 'skipped: openssl is not in PATH: no certificates for TLS tests'
if (opensslSkipReason !== undefined) process.stdout.write(`${opensslSkipReason}\n`)

export interface MadeCertificate {
  /** PEM texts. */
  readonly certificate: string
  readonly key: string
  /** As node's TLS sockets tell it: upper-case hex. */
  readonly serial: string
}

export interface CertificateWish {
  /** Subject alternative names as openssl writes them: `DNS:a.test,IP:127.0.0.1`. */
  readonly names: string
  /** `/C=DE/O=Shop/CN=shop.test`; default: CN of the first name. */
  readonly subject?: string
  /** From now; negative = ended already. Default 90. */
  readonly days?: number
  /** Default: signed by itself. */
  readonly issuer?: MadeCertificate
  /** An authority: may sign others. */
  readonly isAuthority?: boolean
  /** Arguments of `openssl req -newkey`; default an EC key on P-256. */
  readonly newKey?: readonly string[]
}

export function makeCertificate(wish: CertificateWish): MadeCertificate {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-certificate-'))
  const openssl = (...words: string[]): void => void execFileSync('openssl', words, { cwd: folder, stdio: 'pipe' })
  const first = wish.names.split(',')[0]!.replace(/^[A-Za-z]+:/, '')
  const extensions = [
    `subjectAltName=${wish.names}`,
    `basicConstraints=critical,CA:${wish.isAuthority === true ? 'TRUE' : 'FALSE'}`,
  ]
  try {
    writeFileSync(join(folder, 'extensions'), `${extensions.join('\n')}\n`)
    const newKey = wish.newKey ?? ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
    const subject = wish.subject ?? `/CN=${first}`
    openssl('req', '-new', '-newkey', ...newKey, '-nodes', '-keyout', 'key', '-out', 'request', '-subj', subject)
    const signer = ['-signkey', 'key']
    if (wish.issuer !== undefined) {
      writeFileSync(join(folder, 'ca'), wish.issuer.certificate)
      writeFileSync(join(folder, 'ca-key'), wish.issuer.key)
      signer.splice(0, 2, '-CA', 'ca', '-CAkey', 'ca-key', '-CAcreateserial')
    }
    const days = String(wish.days ?? 90)
    openssl('x509', '-req', '-in', 'request', ...signer, '-days', days, '-extfile', 'extensions', '-out', 'certificate')
    const certificate = readFileSync(join(folder, 'certificate'), 'utf8')
    return {
      certificate,
      key: readFileSync(join(folder, 'key'), 'utf8'),
      serial: new X509Certificate(certificate).serialNumber,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
