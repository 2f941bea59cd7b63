/** What a device sends that is refused: the operator's answer, from the running daemon. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runNode, summitEdge } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

interface Answer {
  readonly kept: number;
  readonly quarantine: readonly Record<string, string | null>[];
}

test("what was refused is shown with its sender, its reason and its beginning, until the daemon ends", async (t) => {
  const folder = temporaryFolder(t);
  const aclFile = join(folder, "acl");
  writeFileSync(aclFile, "topic write telemetry/#\ntopic write observations/#\n", { mode: 0o600 });
  const ports = await Daemon.freePorts();
  const listeners = [{ bind: "127.0.0.1", port: ports.mqtt }];
  const daemon = await Daemon.start({ folder, ports, changes: { mqtt: { listeners, aclFile } } });
  t.after(() => daemon.stop("SIGKILL"));
  const mast = await device(t, ports.mqtt, { clientId: "mast-3" });
  const clearScreen = '{"t":\u001b[2J';
  for (const [topic, payload] of [
    ["telemetry/mast-3", Buffer.from([0x1f, 0x8b, 0x08, 0x00])],
    ["observations/smoke", clearScreen],
    ["telemetry/mast-3", '[{"t":1},{"lat":91}]'],
    ["alerts/fire", '{"t":1,\n"x":2}'],
  ] as const)
    await mast.publishAsync(topic, payload, { qos: 1 });

  const { kept, quarantine } = (await (await daemon.get("/api/v1/quarantine")).json()) as Answer;
  assert.equal(kept, 4);
  const told = quarantine.map(({ at, detail, ...rest }) => {
    assert.ok(Math.abs(Date.parse(at ?? "") - Date.now()) < 60_000);
    return [rest, detail] as const;
  });
  const sender = { source: "mqtt", device: "mast-3" };
  const smoke = { ...sender, reason: "invalid", via: "observations/smoke" };
  const telemetry = { ...sender, reason: "invalid", via: "telemetry/mast-3" };
  assert.deepEqual(
    told.map(([rest]) => rest),
    [
      { ...sender, reason: "unauthorised", via: "alerts/fire", head: '{"t":1,\n"x":2}', hex: null },
      { ...telemetry, head: '{"lat":91}', hex: null },
      { ...smoke, head: clearScreen, hex: Buffer.from(clearScreen).toString("hex") },
      { ...telemetry, head: "\u001f\ufffd\b\u0000", hex: "1f8b0800" },
    ],
  );
  for (const [at, pattern] of [/aclFile does not let/, /lat/, /^not JSON: /, /^not UTF-8$/].entries())
    assert.match(told[at]?.[1] ?? "", pattern);
  assert.deepEqual((await daemon.status()).refused, { invalid: 3, unauthorised: 1, "outbox-full": 0 });

  const config = ["--config", join(folder, "gateway.yaml")];
  const answer = JSON.parse((await summitEdge(["quarantine", "--json", ...config])).stdout) as Answer;
  assert.deepEqual(answer, { kept, quarantine });
  const shown = await summitEdge(["quarantine", ...config]);
  assert.equal(shown.status, 0, shown.stderr);
  assert.match(shown.stdout, / {4}1f 8b 08 00 {2}\|\.\.\.\.\|\n$/);
  assert.match(shown.stdout, /not JSON: .*\\u001b\[2J/);
  assert.match(shown.stdout, / {4}\{"t":1,\\u000a"x":2\}\n/);
  const commands = (text: string) => /[^\P{Cc}\n]/u.test(text);
  assert.ok(!commands(shown.stdout), shown.stdout);
  assert.match((await summitEdge(["status", ...config])).stdout, /1 unauthorised.*; see summit-edge quarantine\.\n/);

  const careless = mutant(t, "cli/quarantine.js", "printable(text)", "text");
  const control = await runNode(join(careless, "main.js"), ["quarantine", ...config]);
  assert.ok(commands(control.stdout), "control: what is not made printable is found out");

  assert.equal(await daemon.stop(), 0);
  const gone = await summitEdge(["quarantine", ...config]);
  assert.equal(gone.status, 1);
  assert.match(gone.stderr, /^error: .*in the running daemon's memory only.*\nhint: .*reading refused/);
});
