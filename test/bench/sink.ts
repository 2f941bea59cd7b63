/** A fusion that takes everything and looks at nothing: what is measured is the gateway. Prints its port; `GET /` counts requests. */
import { createServer } from "node:http";

let requests = 0;
let bytes = 0;
const server = createServer((request, response) => {
  if (request.method === "GET") {
    response.end(JSON.stringify({ requests, bytes }));
    return;
  }
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  request.on("end", () => {
    requests++;
    response.writeHead(204).end();
  });
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  const address = server.address();
  console.log(JSON.stringify({ port: typeof address === "object" ? address?.port : 0 }));
});
