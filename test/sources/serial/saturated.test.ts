/** Eight lines at their full pace at once, and not a byte lost. How late the event loop is meanwhile: `npm run bench -- ports`. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { missing } from "../../support/commands.ts";
import { BYTES_PER_SECOND_AT_115200, PacedPorts } from "../../support/paced-ports.ts";
import { jsonPort, serialHouse } from "../../support/serial-house.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { until } from "../../support/until.ts";

const skip = missing("python3");

async function site(t: TestContext, ports: number, pace: number, seconds: number) {
  const devices = await PacedPorts.plugIn(t, { folder: temporaryFolder(t), ports, pace, seconds });
  const configs = devices.paths.map((path, port) =>
    jsonPort({ name: `port${port}`, path, baudRate: 115_200, maxRate: { frames: 5000, bytes: 524_288 } }),
  );
  const house = serialHouse(configs);
  t.after(() => Promise.all(house.sources.map((source) => source.stop())));
  await Promise.all(house.sources.map((source) => source.start()));
  return { ...house, devices };
}

test("eight ports at 115,200 baud, saturated at once, lose no byte", { skip }, async (t) => {
  const { devices, intake, conditions } = await site(t, 8, BYTES_PER_SECOND_AT_115200, 2);
  const { frames, bytes, dropped } = await devices.talk();
  const all = frames.reduce((sum, count) => sum + count, 0);
  await until("all of it", () => intake.readings.length >= all);
  assert.deepEqual(dropped, Array(8).fill(0));
  for (const sent of bytes) assert.ok(sent >= BYTES_PER_SECOND_AT_115200, `saturated: ${sent} bytes`);
  for (const [port, count] of frames.entries()) {
    const numbers = intake.payloads(`port${port}`).map((payload) => (payload as { n: number }).n);
    assert.deepEqual(
      numbers,
      Array.from({ length: count }, (_, n) => n),
    );
  }
  assert.deepEqual(intake.refusals, []);
  assert.deepEqual(conditions.list(), [], "the usual maxRate holds nothing back");
});

test("control: the devices wait for nobody, and what is not read in time is lost", { skip }, async (t) => {
  const { devices, intake } = await site(t, 1, 20 * BYTES_PER_SECOND_AT_115200, 2);
  intake.saturated = true;
  const { dropped } = await devices.talk();
  assert.ok((dropped[0] ?? 0) > 0);
});
