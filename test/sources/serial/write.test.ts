/** Writing to a port whose other end takes nothing: it waits without holding anything up, and ends with the port. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#src/kernel/clock.js";
import { openDevicePort } from "#src/sources/serial/device-port.js";
import { missing } from "../../support/commands.ts";
import { DuplexPty } from "../../support/duplex-pty.ts";
import { LINE_DEFAULTS } from "../../support/serial-house.ts";
import { until } from "../../support/until.ts";

const skip = missing("python3");
const LINE = { baudRate: 9600, dataBits: 8, parity: "none", stopBits: 1, ...LINE_DEFAULTS } as const;
/** More than a pseudo-terminal and the way to its far end can hold. */
const BYTES = 4 * 1024 * 1024;

for (const isTaken of [true, false])
  test(`what cannot be written at once ${isTaken ? "is written when there is room" : "is given up when the port closes"}`, {
    skip,
  }, async (t) => {
    const pty = await DuplexPty.plugIn();
    t.after(() => pty.unplug());
    const { signal } = new AbortController();
    const opened = await openDevicePort(pty.device, LINE, { clock: systemClock, signal });
    assert.ok(opened.kind === "open");
    const { port } = opened;
    const heard: string[] = [];
    port.read({ onData: (chunk) => heard.push(Buffer.from(chunk).toString()), onClosed: () => heard.push("closed") });
    let isWritten = false;
    const written = port.write(Buffer.alloc(BYTES, "x")).then(() => {
      isWritten = true;
    });
    pty.say("still heard");
    await until("what is said meanwhile", () => heard.join("") === "still heard");
    assert.equal(isWritten, false);
    if (isTaken) {
      let taken = 0;
      pty.take((chunk) => (taken += chunk.length));
      await until("all of it", () => taken === BYTES);
    }
    await port.close();
    await written;
    assert.equal(heard.join(""), "still heard");
  });
