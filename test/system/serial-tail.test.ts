/** Looking on at a port of the real daemon: with curl, with the command, and by one who does not read. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { stringify } from "yaml";
import { missing } from "../support/commands.ts";
import { Daemon } from "../support/daemon.ts";
import { type Line, Onlooker, summitEdge } from "../support/onlooker.ts";
import { PtyPair } from "../support/pty-pair.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const skip = missing("socat");
const RMC = "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A";
const GSA = "$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39";
const BAD = "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*00";

async function site(t: TestContext, port: object = { codec: "nmea0183" }) {
  const folder = temporaryFolder(t);
  const pair = await PtyPair.plugIn(folder, "mast");
  t.after(() => pair.unplug());
  const serial = [{ name: "mast", path: pair.device, reopen: { initial: "50ms", max: "200ms" }, ...port }];
  const daemon = await Daemon.start({ folder, changes: { serial } });
  t.after(() => daemon.stop("SIGKILL"));
  return { folder, pair, serial, daemon, config: join(folder, "gateway.yaml") };
}

const tailUrl = ({ ports }: Daemon, query = ""): string =>
  `http://127.0.0.1:${ports.http}/api/v1/serial/mast/tail${query}`;

test("curl and the command see what comes over the daemon's port, until they or the daemon end", {
  skip: skip || missing("curl"),
}, async (t) => {
  const { pair, daemon, config } = await site(t);
  const curl = new Onlooker(t, "curl", ["-sN", tailUrl(daemon)]);
  const command = summitEdge(t, "serial", "tail", "mast", "--json", "--config", config);
  const person = summitEdge(t, "serial", "tail", "mast", "--config", config);
  const onlookers = [curl, command];
  await until("all look on", () => onlookers.every(({ text }) => text !== "") && person.text !== "");
  await pair.say([RMC, GSA, BAD, ""].join("\r\n"));
  const kinds = ["port", "reading", "ignored", "refused"];
  await until("they see it", () => onlookers.every((each) => each.kinds().length >= kinds.length));
  for (const each of onlookers) {
    assert.deepEqual(each.kinds(), kinds);
    const [port, reading, , refused] = each.lines;
    assert.deepEqual([port.name, port.state, port.path, port.codec], ["mast", "open", pair.device, "nmea0183"]);
    assert.equal(Buffer.from(reading.hex, "hex").toString(), RMC);
    assert.deepEqual([reading.class, reading.reading.lat, reading.accepted], ["position", 48.1173, 1]);
    assert.equal(refused.detail, "bad checksum");
  }
  await until("so does the person", () => person.text.includes("refused"));
  assert.match(person.text, /^mast: open, .*mast, 9600 bit\/s 8N1, framing lines, codec nmea0183\n/);
  assert.match(person.text, /\d\d:\d\d:\d\d\.\d{3} {2}reading {4}\$GPRMC,123519.*\n +position \{"ts_iso":"1994-/);
  assert.match(person.text, /refused {4}bad checksum: \$GPGGA/);
  assert.equal(await person.interrupt(), 0);
  assert.equal(person.errors, "");

  const { sources } = await daemon.status();
  const port = (sources.find(({ name }) => name === "mast") as Line).port;
  assert.deepEqual(
    [port.path, port.device, port.detail, port.frames, port.refused, port.discarded],
    [pair.device, pair.device, null, 3, 1, 0],
  );
  assert.equal(port.bytes, [RMC, GSA, BAD, ""].join("\r\n").length);
  assert.ok(Date.parse(port.since) <= Date.now());

  await pair.unplug();
  await until("they see it go", () => onlookers.every((each) => each.kinds().includes("closed")));
  assert.match(curl.lines.at(-1).detail, /is not there: plug the device in/);
  assert.equal(await daemon.stop(), 0);
  assert.deepEqual(await Promise.all(onlookers.map(({ ended }) => ended)), [0, 0]);
  for (const each of onlookers) assert.equal(each.kinds().at(-1), "ended");
});

test("who looks on and does not read holds up neither the port, nor the others, nor the daemon's end", {
  skip,
}, async (t) => {
  const { pair, daemon } = await site(t, { codec: "json", maxRate: { frames: 0, bytes: "0B" } });
  const idler = connect(daemon.ports.http, "127.0.0.1");
  t.after(() => idler.destroy());
  idler.pause();
  idler.write("GET /api/v1/serial/mast/tail?what=bytes HTTP/1.1\r\nhost: localhost\r\n\r\n");
  await once(idler, "connect");
  const reader = summitEdge(t, "serial", "tail", "mast", "--json", "--config", join(daemon.folder, "gateway.yaml"));
  await until("the reader looks on", () => reader.text !== "");
  const frames = 4000;
  // More than the kernel holds for the idler's connection, once it is written in hexadecimal.
  const filling = "x".repeat(2000);
  for (let n = 0; n < frames; n += 100) {
    const some = Array.from({ length: 100 }, (_, at) => `${JSON.stringify({ n: n + at, filling })}\n`);
    await pair.say(some.join(""));
  }
  await daemon.until(({ accepted }) => accepted === frames);
  // Again where it is one of those that are more than can be shown.
  const sayLast = (): Promise<void> => pair.say('{"n":"last"}\n');
  await until("the reader is up to date", () => reader.text.includes('"n":"last"'), sayLast);
  const before = reader.lines.slice(
    0,
    reader.lines.findIndex(({ reading }) => reading?.n === "last"),
  );
  const told = before.filter(({ kind }) => kind === "reading").length;
  const left = before.reduce((sum, { kind, lines }) => sum + (kind === "dropped" ? lines : 0), 0);
  assert.ok(told + left >= frames, `${told} told, ${left} left out`);
  assert.equal(await daemon.stop(), 0);
  assert.equal(await reader.ended, 0);
});

test("a port that is not there, one tail too many, and a call that could not end are refused", { skip }, async (t) => {
  const { daemon, config, pair } = await site(t);
  const none = await daemon.get("/api/v1/serial/none/tail");
  assert.deepEqual([none.status, ((await none.json()) as Line).code], [404, "RESOURCE_NOT_FOUND"]);
  const command = summitEdge(t, "serial", "tail", "none", "--config", config);
  assert.equal(await command.ended, 1);
  assert.match(command.errors, /there is no serial port none\nhint: Name one of mast\./);
  const [byPath, strange] = [pair.device, "/dev/null"].map((path) =>
    summitEdge(t, "serial", "tail", path, "--seconds", "1", "--config", config),
  );
  assert.equal(await byPath?.ended, 0);
  assert.match(byPath?.text ?? "", /^mast: open/);
  assert.equal(await strange?.ended, 2);
  assert.match(
    strange?.errors ?? "",
    /\/dev\/null is no port of the configuration\nhint: .*doctor serial .*--listen \/dev\/null/,
  );
  assert.equal((await fetch(tailUrl(daemon), { method: "HEAD" })).status, 405);
  assert.equal((await fetch(tailUrl(daemon, "?what=all"))).status, 400);

  const ends: AbortController[] = [];
  const look = async (): Promise<number> => {
    const end = new AbortController();
    const { status } = await fetch(tailUrl(daemon), { signal: end.signal });
    if (status === 200) ends.push(end);
    return status;
  };
  for (let n = 0; n < 8; n++) assert.equal(await look(), 200);
  assert.equal(await look(), 409);
  for (const end of ends) end.abort();
  let status = 409;
  while (status === 409) status = await look();
  assert.equal(status, 200);
  ends.at(-1)?.abort();
});

test("without a daemon the command opens the port itself, and leaves one alone that somebody has", {
  skip,
}, async (t) => {
  const folder = temporaryFolder(t);
  const pair = await PtyPair.plugIn(folder, "mast");
  t.after(() => pair.unplug());
  const config = join(folder, "gateway.yaml");
  const serial = [{ name: "mast", path: pair.device, codec: "nmea0183" }];
  const http = { port: (await Daemon.freePorts()).http };
  writeFileSync(config, stringify({ gateway: { id: "x", dataDir: join(folder, "data") }, serial, http }));
  const command = summitEdge(t, "serial", "tail", "mast", "--json", "--config", config);
  await until("it is open", () => command.kinds().includes("opened"));
  await pair.say(`${RMC}\r\n`);
  await until("it is read", () => command.kinds().includes("reading"));

  const second = summitEdge(t, "serial", "tail", "mast", "--config", config);
  assert.equal(await second.ended, 1);
  assert.match(second.errors, new RegExp(`in use by .*process ${command.child.pid}`));
  assert.match(second.errors, /looked at by its name: summit-edge serial tail .*NAME/);
  assert.equal(await command.interrupt(), 0);
  assert.equal(command.errors, "");

  const unknown = summitEdge(t, "serial", "tail", "gps", "--config", config);
  assert.equal(await unknown.ended, 2);
  assert.match(unknown.errors, /its ports: mast/);
});
