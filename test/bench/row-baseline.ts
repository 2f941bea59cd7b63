/**
 * What many gateways do, as a yardstick: a row per reading in SQLite (WAL, FULL), 500 of them read, joined, gzipped and posted at
 * a time, and deleted when fusion has answered. `row-baseline FILE READINGS PORT` fills a file, drains it to the sink on PORT, and
 * prints readings per second.
 */
import { Agent, request } from "node:http";
import { gzipSync } from "node:zlib";
import Database from "better-sqlite3";
import { blockOfTexts } from "./fill-outbox.ts";

const BATCH = 500;
const [file = "", readings = "", port = ""] = process.argv.slice(2);
const db = new Database(file);
db.pragma("journal_mode = WAL");
db.pragma("synchronous = FULL");
db.exec("CREATE TABLE reading (id INTEGER PRIMARY KEY, json TEXT NOT NULL)");
const insert = db.prepare("INSERT INTO reading (json) VALUES (?)");
for (let n = 0; n < Number(readings); n += BATCH) {
  const texts = blockOfTexts();
  db.transaction(() => {
    for (const text of texts) insert.run(text);
  })();
}

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
function post(body: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-encoding": "gzip", "content-length": body.length };
    const outgoing = request({ port: Number(port), method: "POST", agent, headers }, (answer) => {
      answer.resume();
      answer.on("end", resolve);
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

const next = db.prepare("SELECT id, json FROM reading ORDER BY id LIMIT ?");
const remove = db.prepare("DELETE FROM reading WHERE id <= ?");
const from = performance.now();
for (;;) {
  const rows = next.all(BATCH) as { id: number; json: string }[];
  const last = rows.at(-1);
  if (last === undefined) break;
  await post(gzipSync(`{"observations":[${rows.map(({ json }) => json).join(",")}]}`));
  remove.run(last.id);
}
const perSecond = Number(readings) / ((performance.now() - from) / 1000);
console.log(JSON.stringify({ perSecond }));
agent.destroy();
db.close();
