/** Writing to a port whose other end takes nothing: it waits without holding anything up, and ends with the port. */
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { test } from "node:test";
import { systemClock } from "#src/kernel/clock.js";
import { openDevicePort } from "#src/sources/serial/device-port.js";
import { missing } from "../../support/commands.ts";
import { PtyPair } from "../../support/pty-pair.ts";
import { LINE_DEFAULTS } from "../../support/serial-house.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { until } from "../../support/until.ts";

const skip = missing("socat");
const LINE = { baudRate: 9600, dataBits: 8, parity: "none", stopBits: 1, ...LINE_DEFAULTS } as const;
/** More than two pseudo-terminals and what joins them can hold. */
const BYTES = 1024 * 1024;

for (const isTaken of [true, false])
  test(`what cannot be written at once ${isTaken ? "is written when there is room" : "is given up when the port closes"}`, {
    skip,
  }, async (t) => {
    const pair = await PtyPair.plugIn(temporaryFolder(t));
    t.after(() => pair.unplug());
    const { signal } = new AbortController();
    const opened = await openDevicePort(pair.device, LINE, { clock: systemClock, signal });
    assert.ok(opened.kind === "open");
    const { port } = opened;
    const heard: string[] = [];
    port.read({ onData: (chunk) => heard.push(Buffer.from(chunk).toString()), onClosed: () => heard.push("closed") });
    let isWritten = false;
    const written = port.write(Buffer.alloc(BYTES, "x")).then(() => {
      isWritten = true;
    });
    await pair.say("still heard");
    await until("what is said meanwhile", () => heard.join("") === "still heard");
    assert.equal(isWritten, false);
    if (isTaken) {
      let taken = 0;
      const reader = createReadStream(`${pair.device}.far`);
      reader.on("data", (chunk) => (taken += chunk.length));
      reader.on("error", () => {});
      await until("all of it", () => taken === BYTES);
      reader.destroy();
    }
    await port.close();
    await written;
    assert.deepEqual(heard, ["still heard"]);
  });
