/**
 * Sets the library's limit for request heads, which it reads once when it is loaded: import this before anything that
 * loads it.
 */
process.env.UWS_HTTP_MAX_HEADERS_SIZE ??= String(64 * 1024 + 16 * 1024 + 64)

export const HEAD_LIMIT_IS_SET = true
