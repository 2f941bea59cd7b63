/** Wrong passwords from many addresses at once, against the real daemon. Nothing here is measured in time: only whose turn it was. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { entryFor } from "#src/identity/passwords.js";
import { gateway } from "../support/limited-gateway.ts";
import { mutant } from "../support/mutant.ts";
import { CONNACK, connectPacket, PUBACK, publishPacket, RawMqtt } from "../support/raw-mqtt.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const ADDRESSES = 50;
const CREDENTIALS_WRONG = 4;

/** Fifty addresses that try wrong passwords, each on three connections at a time, again and again. */
class Flood {
  /** Return codes of their logins. */
  readonly codes: number[] = [];
  #going = true;

  constructor(t: TestContext, port: number) {
    t.after(() => {
      this.#going = false;
    });
    for (let n = 0; n < ADDRESSES * 3; n++) void this.#guess(port, `127.0.1.${1 + (n % ADDRESSES)}`, n);
  }

  /** Logins that were refused for their password. */
  get refused(): number {
    return this.codes.filter((code) => code === CREDENTIALS_WRONG).length;
  }

  async #guess(port: number, from: string, n: number): Promise<void> {
    while (this.#going) {
      const client = new RawMqtt(port, { from });
      const code = await client.connect(`guess-${n}`, { username: "mast-3", password: "wrong" }).catch(() => -1);
      this.codes.push(code);
      await client.vanish();
    }
  }
}

/** How many wrong passwords are verified between the right one's CONNECT and its answer, which is returned too. */
async function whileFlooded(t: TestContext, dist?: string): Promise<{ code: number; before: number; port: number }> {
  const passwordFile = join(temporaryFolder(t), "passwords");
  writeFileSync(passwordFile, `mast-3:${await entryFor(Buffer.from("right"))}\n`, { mode: 0o600 });
  // Nobody is turned away for having waited: only the order counts.
  const { port } = await gateway(t, { authenticateTimeout: "5m" }, { mqtt: { passwordFile }, ...(dist && { dist }) });
  const flood = new Flood(t, port);
  await until("each address has had its first turn", () => flood.refused > ADDRESSES);
  const device = new RawMqtt(port);
  const from = flood.refused;
  device.send(connectPacket("mast-3", { username: "mast-3", password: "right" }));
  const code = (await device.next(CONNACK)).body[1] ?? -1;
  const before = flood.refused - from;
  device.send(publishPacket("telemetry/mast-3", "{}", { qos: 1 }));
  await device.next(PUBACK);
  return { code, before, port };
}

test("a device with the right password is in after a few of them", async (t) => {
  const { code, before } = await whileFlooded(t);
  t.diagnostic(`${before} wrong passwords were answered before it`);
  assert.equal(code, 0);
  assert.ok(before <= 12, `${before} wrong passwords were answered before it`);
});

test("control: in the order of arrival it waits for as many as there are addresses, and more", async (t) => {
  const first = ["if (best !== undefined && !comesFirst)", "if (best !== undefined)"] as const;
  const { before } = await whileFlooded(t, mutant(t, "identity/verification-turns.js", ...first));
  assert.ok(before >= ADDRESSES, `${before} wrong passwords were answered before it`);
});
