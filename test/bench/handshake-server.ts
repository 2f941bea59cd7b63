/** A TLS server with the options of a listener, and nothing behind it: handshakes are all that it does. Prints its port. */

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { loadServerTls } from "#src/identity/server-tls.js";

const [certFile = "", keyFile = ""] = process.argv.slice(2);
const tls = { certFile, keyFile, clientCertificate: "none", development: false } as const;
const contents = (path: string) => ({ path, content: readFileSync(path), mode: 0o600 });
const files = { certFile: contents(certFile), keyFile: contents(keyFile), caFile: undefined, crlFile: undefined };
const { options } = await loadServerTls(tls, "bench", files);
const server = createServer(options, (socket) => {
  socket.on("error", () => {});
  socket.end();
});
server.on("tlsClientError", () => {});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })));
