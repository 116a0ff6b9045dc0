/**
 * Cases of the corpus in which our handler is called and the outcome is still wrong, because the library decides it:
 * pinned, so that a new version's changes are noticed in both directions.
 */
export interface LibraryDecision {
  /** What the library does, the consequence, and what we do about it. */
  readonly reason: string
  readonly ids: readonly string[]
}

export const LIBRARY_DECISIONS: readonly LibraryDecision[] = [
  {
    reason:
      'F-01 … F-04: the library reads chunk framing by itself: sizes, extensions, line ends and trailers are not checked or misread, and none of it is shown to us. Consequence: a bad chunked body may reach the upstream as a good one, re-framed by us; a good one with extensions or trailers may be cut off. Mitigation: the connection closes after every chunked request, nothing behind it is ever served (T-04).',
    ids: [
      'gunicorn/invalid/chunked_09',
      'gunicorn/invalid/chunked_13',
      'gunicorn/invalid/rfc9112_chunked_missing_final_crlf_01',
      'gunicorn/valid/013',
      'llhttp/transfer-encoding/Chunk-data-not-terminated-by-CRLF',
      'llhttp/transfer-encoding/Missing-last-chunk',
      'llhttp/transfer-encoding/No-extension-after-semicolon',
      'llhttp/transfer-encoding/No-semicolon-before-chunk-extensions',
      'own/chunk/cut-before-final-crlf',
      'own/chunk/ext-bad-01',
      'own/chunk/ext-bad-02',
      'own/chunk/ext-bad-03',
      'own/chunk/ext-bad-04',
      'own/chunk/ext-bad-06',
      'own/chunk/ext-bad-11',
      'own/chunk/ext-bad-13',
      'own/chunk/ext-bad-15',
      'own/chunk/ext-bad-20',
      'own/chunk/ext-ok-00',
      'own/chunk/ext-ok-08',
      'own/chunk/funky-2',
      'own/chunk/funky-4',
      'own/chunk/nested-end-extra-crlf',
      'own/chunk/size-03',
      'own/chunk/size-04',
      'own/chunk/size-05',
      'own/chunk/size-06',
      'own/chunk/size-10',
      'own/chunk/size-11',
      'own/chunk/size-13',
      'own/chunk/size-14',
      'own/chunk/size-16',
      'own/chunk/size-28',
      'own/chunk/size-30',
      'own/chunk/size-4096-zeros',
      'own/chunk/term-data-crlflf',
      'own/chunk/term-data-crx',
      'own/chunk/term-data-spcrlf',
      'own/chunk/term-data-xx',
      'own/chunk/term-end-crx',
      'own/chunk/term-end-lfcr',
      'own/chunk/term-end-lflf',
      'own/chunk/term-end-xx',
      'own/chunk/term-last-cr',
      'own/chunk/term-last-crcrlf',
      'own/chunk/term-last-crlflf',
      'own/chunk/term-last-crx',
      'own/chunk/term-last-lf',
      'own/chunk/term-last-lfcr',
      'own/chunk/term-last-lflf',
      'own/chunk/term-last-nel',
      'own/chunk/term-last-spcrlf',
      'own/chunk/term-last-vt',
      'own/chunk/term-size-crcrlf',
      'own/chunk/term-size-crlflf',
      'own/chunk/term-size-lf',
      'own/chunk/term-size-lfcr',
      'own/chunk/term-size-lflf',
      'own/chunk/trailer-bad-00',
      'probe/SMUG-CHUNK-BARE-CR-TERM',
      'probe/SMUG-CHUNK-EXT-CTRL',
      'probe/SMUG-CHUNK-EXT-LF',
      'probe/SMUG-CHUNK-LF-TERM',
      'probe/SMUG-CHUNK-LF-TRAILER',
      'probe/SMUG-CHUNK-MISSING-TRAILING-CRLF',
      'probe/SMUG-CHUNK-SIZE-TRAILING-OWS',
      'probe/SMUG-CHUNK-SPILL',
    ],
  },
  {
    reason:
      'F-09: the library closes the connection when a second request arrives before the answer to the first. Consequence: clients that pipeline must repeat; the first request may have reached the upstream. Mitigation: none; closing is allowed (T-27).',
    ids: [
      'gunicorn/valid/018',
      'gunicorn/valid/023',
      'llhttp/connection/Restarting-when-keep-alive-is-explicitly',
      'llhttp/pipelining/Should-parse-multiple-events',
      'own/pipeline/2',
      'own/pipeline/chunked-get',
      'own/pipeline/close-then-more',
      'own/pipeline/post-get',
    ],
  },
  {
    reason:
      'The library takes bytes from 0x80 at both ends of a value for white space and drops them. Consequence: the value is shorter; every layer of ours, the rule matcher and the upstream see the same. Mitigation: none.',
    ids: ['own/cl-value/36'],
  },
  {
    reason:
      'The library ends the list of fields at a line with an empty name. Consequence: the lines behind it are lost, framing fields among them, for the library and for us alike; what follows the head is read as the next request. Mitigation: none; a front that passes empty names to us does not exist in practice.',
    ids: ['own/header/bad-36'],
  },
]
