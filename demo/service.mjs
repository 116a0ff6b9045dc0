/** One small upstream service: answers JSON that names it, and one page that leaks a database error on purpose. */
import { createServer } from 'node:http'

const [name, port] = process.argv.slice(2)

const LEAK = `<html><body><h1>Internal error</h1>
<p>You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right
syntax to use near '' at line 1</p><p>secret-of-${name}</p></body></html>`

const server = createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    if (request.url.endsWith('/broken-report')) {
      response.writeHead(200, { 'content-type': 'text/html' }).end(LEAK)
      return
    }
    const body = JSON.stringify({ service: name, path: request.url, forwarded_for: request.headers['x-forwarded-for'] })
    response.writeHead(200, { 'content-type': 'application/json' }).end(body)
  })
})

server.listen(Number(port), '127.0.0.1', () => process.stdout.write('ready\n'))
