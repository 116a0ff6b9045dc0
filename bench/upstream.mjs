/** The upstream of the benchmarks: a small JSON answer to everything, an event stream at /stream. */
import { createServer } from 'node:http'

const BODY = JSON.stringify({
  id: 7,
  name: 'bench',
  items: Array.from({ length: 8 }, (_, index) => ({ index, text: 'lorem ipsum' })),
})
const EVENTS = 250
const GAP_MS = 20

const server = createServer((request, response) => {
  request.resume()
  if (request.url === '/stream') {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    let index = 0
    const timer = setInterval(() => {
      response.write(`data: {"at":${performance.timeOrigin + performance.now()}}\n\n`)
      index += 1
      if (index === EVENTS) {
        clearInterval(timer)
        response.end()
      }
    }, GAP_MS)
    response.once('close', () => clearInterval(timer))
    return
  }
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': BODY.length }).end(BODY)
})

server.listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('ready\n'))
