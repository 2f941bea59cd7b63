/** A fusion that takes everything and looks at nothing: what is measured is the gateway. Prints its port; `GET /` counts requests and tells when they came. */
import { createServer } from "node:http";

let requests = 0;
let bytes = 0;
/** Milliseconds, of the first ones. */
const times: number[] = [];
const MOST_TIMES = 1000;
const server = createServer((request, response) => {
  if (request.method === "GET") {
    response.end(JSON.stringify({ requests, bytes, times }));
    return;
  }
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  request.on("end", () => {
    requests++;
    if (times.length < MOST_TIMES) times.push(performance.now());
    response.writeHead(204).end();
  });
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  const address = server.address();
  console.log(JSON.stringify({ port: typeof address === "object" ? address?.port : 0 }));
});
