/** An upstream as a process of its own, to be killed: answers every request with its path, on the port it is given. */
import { createServer } from 'node:http'

const server = createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    // some answers come in two parts, so that there is something to cut
    const [half, rest] = [request.url.slice(0, 4), request.url.slice(4)]
    response.writeHead(200, { 'content-length': String(request.url.length), 'x-port': process.argv[2] })
    response.write(half)
    setTimeout(() => response.end(rest), 5)
  })
})
server.keepAliveTimeout = 30_000
server.listen(Number(process.argv[2]), '127.0.0.1', () => process.send?.('ready'))
