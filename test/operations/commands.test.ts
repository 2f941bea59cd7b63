import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { Command } from "commander";
import { pino } from "pino";
import { addDeadLettersCommand } from "#src/cli/dead-letters.js";
import { addOutboxCommand } from "#src/cli/outbox.js";
import { addQuarantineCommand } from "#src/cli/quarantine.js";
import { addReplayCommand } from "#src/cli/replay.js";
import { addStatusCommand } from "#src/cli/status.js";
import type { Terminal } from "#src/cli/terminal.js";
import { systemClock } from "#src/kernel/clock.js";
import { GatewayError } from "#src/kernel/errors.js";
import { HttpServer } from "#src/operations/http.js";
import { freePort } from "../support/free-port.ts";
import { httpConfig } from "../support/http-config.ts";
import { deadLetter, MemoryGatewayView, storedReading } from "../support/memory-view.ts";

let view: MemoryGatewayView;
let server: HttpServer;
let url: string;

beforeEach(async () => {
  view = new MemoryGatewayView();
  view.startedAt = systemClock.monotonic() - 93_784_000;
  const config = httpConfig();
  server = new HttpServer({ view, config, clock: systemClock, log: pino({ level: "silent" }) });
  await server.open();
  url = `http://127.0.0.1:${server.port}`;
});
afterEach(() => server.close());

/** Runs a command line; what it writes comes back, what it throws is thrown. */
async function run(
  args: readonly string[],
  pause: Terminal["pause"] = async () => false,
  installed?: string,
  interrupted: Promise<void> = new Promise(() => {}),
  interactive = false,
): Promise<string> {
  const written: string[] = [];
  const terminal: Terminal = {
    env: {},
    interactive,
    installedConfig: () => installed,
    write: (text) => void written.push(text),
    pause,
  };
  const program = new Command("summit-edge").exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} });
  addStatusCommand(program, terminal);
  addReplayCommand(addOutboxCommand(program, terminal), terminal, () => interrupted);
  addDeadLettersCommand(program, terminal);
  addQuarantineCommand(program, terminal);
  inheritOverrides(program);
  await program.parseAsync(args, { from: "user" });
  return written.join("");
}

function inheritOverrides(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    inheritOverrides(child);
  }
}

const withCode =
  (code: string, hint = /./) =>
  (error: GatewayError): boolean => {
    assert.equal(error.code, code, error.message);
    assert.match(error.hint, hint);
    return true;
  };

test("status tells a person how the gateway is", async () => {
  const detail = "/dev/ttyUSB0 is gone";
  const since = Date.now() - 60_000;
  view.facts.conditions = [{ component: "serial:mast", code: "port-gone", severity: "failing", detail, since }];
  const text = await run(["status", "--url", url]);
  assert.match(text, /^sierra-014, Summit Edge 0\.1\.0, running for 1 d 2 h\nHealth: degraded, \d+ of 100\n/);
  assert.match(text, /failing {2}serial:mast {2}port-gone {2}1 min \d s ago {2}\/dev\/ttyUSB0 is gone/);
  assert.match(text, /waiting +15, 1 critical, 2 high, 4 normal, 8 low\n/);
  assert.match(text, /in use +80\.0 KiB of 2\.0 GiB\n/);
  assert.match(text, /kept for replay +4,200 \(121\.0 KiB\)\n/);
  assert.match(text, /writes +558 B a reading, 4\.1 commits a second \(over the last 2 h 0 min\)\n/);
  assert.match(
    text,
    /card wear +60\.0 GiB a year, 0\.6 % of the 10\.0 TiB in outbox\.cardEndurance, before the card's/,
  );
  assert.match(text, /The books balance\. Duplicates: 7\. Refused: 5 invalid; see summit-edge quarantine\./);
  assert.match(text, /mast +serial +open +never +20 +0\n/);
});

test("status says which priorities were evicted, and that readings may wait for the clock", async () => {
  assert.match(await run(["status", "--url", url]), /evicted +3 {2}1 normal, 2 low\n/);
  assert.doesNotMatch(await run(["status", "--url", url]), /^Clock/m);
  const { clock } = view.facts;
  view.facts.clock = { ...clock, quality: "unsynchronised" };
  const waits = /^Clock: unsynchronised for 1 min \d s, says timedatectl; .* outbox\.waitForClock at most$/m;
  assert.match(await run(["status", "--url", url]), waits);
  view.facts.clock = { quality: "unsynchronised", forSeconds: 60, steps: 0 };
  assert.match(await run(["status", "--url", url]), /^Clock: nothing on this machine can tell/m);
});

test("status says when fusion is tried next, and that one which is looked for is tried as soon as it is back", async () => {
  const uplink = { ...view.facts.uplink, state: "waiting", breaker: "open" as const, nextTryInSeconds: 51.2 };
  view.facts.uplink = uplink;
  assert.match(await run(["status", "--url", url]), /\n {2}next try +in 52 s\n/);
  view.facts.uplink = { ...uplink, looksEverySeconds: 1 };
  assert.match(
    await run(["status", "--url", url]),
    /\n {2}next try +as soon as fusion can be connected to \(checked every 1 s\), in 52 s at the latest\n/,
  );
});

test("status says of a serial port which device it is, for how long, what is wrong, and what came", async () => {
  assert.doesNotMatch(await run(["status", "--url", url]), /Serial ports/);
  const traffic = { bytes: 12_345, frames: 210, refused: 3, discarded: 4, discardedBytes: 99 };
  const path = "/dev/serial/by-id/usb-gps";
  const port = { path, device: "/dev/ttyUSB0", since: 0, detail: "no frame for 5 min", traffic };
  view.facts.sources.push({ name: "gps", kind: "serial", state: "open", accepted: 207, refused: 3, port });
  const text = await run(["status", "--url", url]);
  assert.match(text, /\nSerial ports\n {2}name +state +bytes +frames +unreadable +discarded +device\n/);
  assert.match(text, /\n {2}gps +open for \d+ d \d+ h +12,345 +210 +3 +4 {2}\/dev\/ttyUSB0, .*usb-gps\n/);
  assert.match(text, /\n {2}gps: no frame for 5 min\n$/);
});

test("status sends nobody to the quarantine for what is not there: nothing, or what a full outbox refused", async () => {
  view.facts.refused = { invalid: 0, unauthorised: 0, "outbox-full": 7 };
  assert.match(await run(["status", "--url", url]), /Refused: 0 invalid, 0 unauthorised, 7 outbox-full\.\n/);
});

test("quarantine shows what was refused last, why, and how it began, and commands no terminal", async () => {
  assert.equal(await run(["quarantine", "--url", url]), "Nothing that was refused is kept.\n");
  const at = Date.UTC(2026, 6, 1, 12);
  const known = { at, reason: "invalid", source: "mqtt", device: "mast-3" };
  view.quarantined = [
    { ...known, detail: "not JSON", via: "telemetry/\u001b[2J", head: '{"t":\u009b2J\n' },
    { ...known, detail: "not UTF-8", via: "telemetry/mast-3", head: "B\ufffd", hex: `42ff${"00".repeat(254)}` },
    { ...known, detail: "", via: "telemetry/mast-3", head: "" },
  ];
  const zeros = "00 ".repeat(46).trim();
  assert.equal(
    await run(["quarantine", "--url", url]),
    `at                        reason   source  device  via
2026-07-01T12:00:00.000Z  invalid  mqtt    mast-3  telemetry/mast-3
2026-07-01T12:00:00.000Z  invalid  mqtt    mast-3  telemetry/mast-3
    not UTF-8
    42 ff ${zeros}  |B${".".repeat(47)}| … (256 bytes with --json)
2026-07-01T12:00:00.000Z  invalid  mqtt    mast-3  telemetry/\\u001b[2J
    not JSON
    {"t":\\u009b2J\\u000a
`,
  );
  const limited = await run(["quarantine", "--url", url, "--limit", "1"]);
  assert.match(limited, /^at .*\n2026.*mast-3\nThere are more: --limit 3\n$/);
  const said = await run(["quarantine", "--url", url, "--json"]);
  assert.doesNotMatch(said.replaceAll("\n", ""), /\p{Cc}/u);
  const { kept, quarantine } = JSON.parse(said);
  assert.deepEqual([kept, quarantine.at(-1).head, quarantine.at(-1).hex], [3, '{"t":\u009b2J\n', null]);
  await assert.rejects(run(["quarantine", "--url", url, "--limit", "101"]), /a whole number from 1 to 100/);
});

test("quarantine without a daemon says that only its memory has it, and where refusals are besides", async () => {
  const nobody = `http://127.0.0.1:${await freePort()}`;
  await assert.rejects(run(["quarantine", "--url", nobody]), (error: GatewayError) => {
    assert.match(error.message, /memory only, and the daemon does not answer at http/);
    return withCode("DAEMON_NEEDED", /journalctl -u summit-edge -g 'reading refused'/)(error);
  });
});

test("status says how many messages had a topic that nothing took, where there were any", async () => {
  view.facts.sources = [{ name: "mqtt", kind: "mqtt", state: "listening", accepted: 1, refused: 0, unrouted: 0 }];
  assert.doesNotMatch(await run(["status", "--url", url]), /mqtt\.routes/);
  view.facts.sources = view.facts.sources.map((mqtt) => ({ ...mqtt, unrouted: 1234 }));
  assert.match(
    await run(["status", "--url", url]),
    /\n {2}mqtt: 1,234 messages were not stored: no route in mqtt\.routes/,
  );
});

test("status says it loudly when the books do not balance", async () => {
  view.facts.ledger = { ...view.facts.ledger, delivered: 90 };
  assert.match(await run(["status", "--url", url]), /THE BOOKS DO NOT BALANCE: 5 without a fate/);
});

test("status --json prints what the API answers", async () => {
  const status = JSON.parse(await run(["status", "--url", url, "--json"]));
  assert.deepEqual(status.ledger, view.facts.ledger);
});

test("status --watch goes on through an outage of the daemon", async () => {
  const port = server.port;
  const seen: string[] = [];
  const steps = [
    () => server.close(),
    async () => {
      const config = httpConfig({ port: port ?? 0 });
      server = new HttpServer({ view, config, clock: systemClock, log: pino({ level: "silent" }) });
      await server.open();
    },
  ];
  const text = await run(["status", "--url", url, "--watch", "--json"], async (ms) => {
    assert.equal(ms, 2_000);
    const step = steps.shift();
    await step?.();
    return step !== undefined;
  });
  for (const line of text.trim().split("\n")) seen.push(Object.keys(JSON.parse(line))[0] ?? "");
  assert.deepEqual(seen, ["gateway", "error", "gateway"]);
});

test("a daemon that does not answer is an error with a hint", async () => {
  const nowhere = `http://127.0.0.1:${await freePort()}`;
  for (const command of [["status"], ["outbox", "stats"], ["dead-letters", "list"]])
    await assert.rejects(run([...command, "--url", nowhere]), withCode("DAEMON_UNREACHABLE", /systemctl status/));
});

test("an address that is something else's is told apart from the daemon", async () => {
  await assert.rejects(run(["status", "--url", `${url}/elsewhere/`]), withCode("RESOURCE_NOT_FOUND"));
  await assert.rejects(run(["status", "--url", "sierra"]), withCode("URL_INVALID", /http:\/\/host:port/));
});

test("without --url the configuration says where the daemon listens", async () => {
  const folder = await mkdtemp(join(tmpdir(), "summit-edge-cli-"));
  try {
    const config = join(folder, "gateway.yaml");
    await writeFile(config, `http: { bind: localhost, port: ${server.port} }\n`);
    assert.match(await run(["status", "--config", config]), /^sierra-014/);
    assert.match(await run(["outbox", "stats", "--config", config]), /waiting +15/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("without --config and --url the installed configuration says it, and --url goes before it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "summit-edge-cli-"));
  try {
    const [installed, elsewhere] = [join(folder, "gateway.yaml"), join(folder, "elsewhere.yaml")];
    await writeFile(installed, `http: { port: ${server.port} }\n`);
    await writeFile(elsewhere, "http: { port: 0 }\n");
    const once = async (): Promise<boolean> => false;
    assert.match(await run(["status"], once, installed), /^sierra-014/);
    assert.match(await run(["outbox", "stats"], once, installed), /waiting +15/);
    assert.equal(await run(["dead-letters", "list"], once, installed), "There are no dead letters.\n");
    assert.match(await run(["status", "--url", url], once, elsewhere), /^sierra-014/);
    await assert.rejects(run(["status"], once, elsewhere), withCode("PORT_UNKNOWN", /--url/));
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("where no daemon listens, the file that the configuration names is opened instead", async () => {
  const folder = await mkdtemp(join(tmpdir(), "summit-edge-cli-"));
  try {
    const config = join(folder, "gateway.yaml");
    await writeFile(config, `gateway: { dataDir: ${folder} }\nhttp: { port: ${await freePort()} }\n`);
    const code = await run(["outbox", "stats", "--config", config]).catch((error: GatewayError) => error.code);
    assert.notEqual(code, "DAEMON_UNREACHABLE");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("outbox stats and peek show what waits", async () => {
  view.readings = [storedReading(1), storedReading(2, { priority: "critical" })];
  const stats = await run(["outbox", "stats", "--url", url]);
  assert.match(stats, /accepted +120\n {2}pending +15\n {2}delivered +95\n.* {2}evicted +3\n.* {2}damaged +1\n/s);
  assert.match(stats, /books +balance/);
  const text = await run(["outbox", "peek", "--url", url, "--priority", "critical"]);
  assert.match(text, /^seq +priority[^\n]*\n {2}2 +critical [^\n]*mast-3 +smoke[^\n]*\n$/);
  const readings = JSON.parse(await run(["outbox", "peek", "--url", url, "--limit", "1", "--json"]));
  assert.deepEqual(readings, [storedReading(1)]);
});

test("a device cannot command the operator's terminal", async () => {
  view.readings = [storedReading(1, { source: "\u001b[2Jmast\u009b31m" })];
  assert.match(await run(["outbox", "peek", "--url", url]), /\\u001b\[2Jmast\\u009b31m/);
  const raw = await run(["outbox", "peek", "--url", url, "--json"]);
  assert.doesNotMatch(raw.replaceAll("\n", ""), /\p{Cc}/u);
  assert.equal(JSON.parse(raw)[0].source, "\u001b[2Jmast\u009b31m");
});

test("dead letters are listed, shown, requeued and dropped", async () => {
  view.deadLetters = [1, 2, 3].map(deadLetter);
  const [first = "", second = ""] = view.deadLetters.map(({ id }) => id);
  const page = await run(["dead-letters", "list", "--url", url, "--limit", "2"]);
  assert.match(page, new RegExp(`${first} .*class-unknown {2}fusion does not know`));
  assert.match(page, new RegExp(`There are more: --after ${second}\n$`));
  assert.match(await run(["dead-letters", "show", first, "--url", url]), /code +class-unknown.*"pm2_5_ug_m3": 81/s);
  assert.equal(await run(["dead-letters", "requeue", first, "--url", url]), "1 reading requeued.\n");
  assert.equal(await run(["dead-letters", "drop", "--all", "--yes", "--url", url]), "2 readings dropped.\n");
  assert.equal(await run(["dead-letters", "list", "--url", url]), "There are no dead letters.\n");
});

test("an id that is not known is an error, and the others are dealt with all the same", async () => {
  view.deadLetters = [deadLetter(1)];
  const known = deadLetter(1).id;
  await assert.rejects(run(["dead-letters", "show", "none", "--url", url]), withCode("RESOURCE_NOT_FOUND"));
  await assert.rejects(run(["dead-letters", "requeue", known, "none", "--url", url]), withCode("RESOURCE_NOT_FOUND"));
  assert.equal(view.deadLetters.length, 0);
});

test("dropping everything wants --yes, and a selection is either ids or all: usage errors, status 2", async () => {
  const refused = { exitCode: 2 };
  view.deadLetters = [deadLetter(1)];
  await assert.rejects(run(["dead-letters", "drop", "--all", "--url", url]), refused);
  await assert.rejects(run(["dead-letters", "drop", "--url", url]), refused);
  await assert.rejects(run(["dead-letters", "requeue", "x", "--all", "--url", url]), refused);
  assert.equal(view.deadLetters.length, 1);
});

test("a fault of the outbox keeps its code and hint on its way to the operator", async () => {
  view.fault = new GatewayError({ code: "OUTBOX_BUSY", op: "outbox.peek", message: "busy", hint: "Free some disk." });
  await assert.rejects(run(["outbox", "peek", "--url", url]), withCode("OUTBOX_BUSY", /Free some disk/));
});

test("a replay shows how it fares until it is done", async () => {
  const range = ["--from", "2026-07-01T12:00:00Z", "--to", "2026-07-01T13:00:00Z"];
  let polls = 0;
  const pause = async () => {
    const progress = view.replayProgress;
    assert.ok(progress);
    polls++;
    if (polls === 1) view.replayProgress = { ...progress, state: "sending", total: 1000, sent: 250 };
    if (polls === 2) view.replayProgress = { ...progress, state: "done", total: 1000, sent: 990, damaged: 4 };
    return true;
  };
  const shown = await run(
    ["outbox", "replay", "--url", url, ...range, "--source", "mast-3"],
    pause,
    undefined,
    undefined,
    true,
  );
  assert.match(shown, /Counting/);
  assert.match(shown, /250 of 1,000 readings sent again, 25 %/);
  assert.match(shown, /990 of 1,000 readings sent again\. 4 could not be read back\. 6 were kept for long enough/);
  const { source, rate } = view.replays[0] as { source: string; rate: number };
  assert.deepEqual({ source, rate }, { source: "mast-3", rate: 500 });
});

test("a replay that is interrupted, refused or ended by the daemon is a failure that says what to do next", async () => {
  const range = ["--from", "2026-07-01T12:00:00Z", "--to", "2026-07-01T13:00:00Z"];
  const replay = (pause: () => Promise<boolean>, interrupted?: Promise<void>) =>
    run(["outbox", "replay", "--url", url, ...range], pause, undefined, interrupted);
  await assert.rejects(
    replay(async () => true, Promise.resolve()),
    withCode("REPLAY_STOPPED", /same range/),
  );
  view.replayProgress = undefined;
  const gone = async () => {
    view.replayProgress = undefined;
    return true;
  };
  await assert.rejects(replay(gone), withCode("REPLAY_STOPPED"));
  view.replayRefusal = "running";
  await assert.rejects(
    replay(async () => true),
    withCode("REPLAY_RUNNING", /--stop/),
  );
  await assert.rejects(run(["outbox", "replay", "--url", url, "--stop"]), withCode("REPLAY_NOT_RUNNING"));
  const nobody = `http://127.0.0.1:${await freePort()}`;
  await assert.rejects(run(["outbox", "replay", "--url", nobody, ...range]), withCode("DAEMON_NEEDED", /[Ss]tart/));
  await assert.rejects(run(["outbox", "replay", "--url", url]), { exitCode: 2 });
  await assert.rejects(run(["outbox", "replay", "--url", url, "--from", range[3] ?? "", "--to", range[1] ?? ""]), {
    exitCode: 2,
  });
  await assert.rejects(run(["outbox", "replay", "--url", url, "--from", "yesterday"]), /2026-07-01T12:00:00Z/);
});

test("every command explains itself", async () => {
  for (const command of [
    ["status"],
    ["outbox"],
    ["outbox", "peek"],
    ["quarantine"],
    ["dead-letters"],
    ["dead-letters", "drop"],
  ])
    await assert.rejects(run([...command, "--help"]), { exitCode: 0 });
});
