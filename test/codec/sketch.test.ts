/** The example sketch, compiled for this computer, against the configurations that stand in the README beside it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { createDecoder, createFramer } from "#src/codec/pipeline.js";
import { checkedPipeline } from "#src/sources/serial/pipeline.js";
import { load } from "../config/fixture.ts";
import { projectRoot, run, skipWithout } from "../support/programs.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = join(projectRoot, "device", "sketch", "summit-edge-node");
const readme = readFileSync(join(folder, "README.md"), "utf8");

type Form = "NDJSON" | "COBS_CRC";

/** What the sketch writes in this form where its inputs give these steps: smoke, temperature, smoke, temperature, … */
function written(t: TestContext, form: Form, steps: readonly number[]): Uint8Array {
  const program = join(temporaryFolder(t), "sketch");
  const core = join(projectRoot, "test", "support", "arduino");
  const warnings = ["-Wall", "-Wextra", "-Wno-unused-function", "-Werror"];
  const source = ["-x", "c++", join(folder, "summit-edge-node.ino")];
  const options = ["-std=c++11", ...warnings, `-DFORM=${form}`, "-I", core, "-include", "Arduino.h"];
  assert.deepEqual(run("g++", [...options, ...source, "-o", program]), { status: 0, output: "" });
  const { status, stdout } = spawnSync(program, { input: steps.join(" "), timeout: 30_000 });
  assert.equal(status, 0);
  return stdout;
}

/** What the gateway makes of these bytes with the configuration that the README has for this form. */
async function read(t: TestContext, form: Form, bytes: Uint8Array): Promise<object[]> {
  const [, yaml = ""] = new RegExp(`^## \`${form}\`.*?^\`\`\`yaml\\n(.*?)^\`\`\``, "ms").exec(readme) ?? [];
  const [port] = (await load(t, yaml)).config.serial;
  assert.ok(port, `the README has no configuration for ${form}`);
  assert.equal(port.class, "smoke");
  const pipeline = checkedPipeline(port);
  const [framer, decoder] = [createFramer(pipeline), await createDecoder(pipeline)];
  return framer
    .push(bytes)
    .map((frame) => (frame.kind === "frame" ? decoder.decode(frame.bytes, 0, 0) : { refused: frame.reason }))
    .map((decoded) => ("payload" in decoded ? decoded.payload : decoded));
}

const STEPS = [512, 145, 0, 0, 1023, 20, 300, 102];
/** 145 steps are 708 mV; 0 and 20 are no thermometer; 102 are 498 mV. */
const READINGS = [
  { uptime_s: 0, sequence: 0, smoke_raw: 512, temperature_c: 20.8 },
  { uptime_s: 5, sequence: 1, smoke_raw: 0 },
  { uptime_s: 10, sequence: 2, smoke_raw: 1023 },
  { uptime_s: 15, sequence: 3, smoke_raw: 300, temperature_c: -0.2 },
];

describe("the example sketch", { skip: skipWithout("g++") }, () => {
  it("writes lines of JSON that the gateway reads", async (t) => {
    const lines = await read(t, "NDJSON", written(t, "NDJSON", STEPS));
    assert.deepEqual(
      lines,
      READINGS.map((reading) => ({ source: "ridge-7", ...reading })),
    );
  });

  it("writes COBS frames with a CRC that the gateway reads, and no bit may change on the way", async (t) => {
    const bytes = written(t, "COBS_CRC", STEPS);
    assert.deepEqual(await read(t, "COBS_CRC", bytes), READINGS);
    const first = bytes.indexOf(0, 1) + 1;
    assert.equal(first, 1 + 14);
    for (let bit = 8; bit < (first - 1) * 8; bit++) {
      const changed = Uint8Array.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const readings = await read(t, "COBS_CRC", changed);
      assert.ok(!readings.some((reading) => "sequence" in reading && reading.sequence === 0), `bit ${bit}`);
      assert.deepEqual(readings.slice(-3), READINGS.slice(1), `bit ${bit}`);
    }
  });
});
