import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { presentable } from "#src/config/redact.js";
import { load, problemsOf } from "./fixture.ts";

const EVERYTHING = `
serial:
  - name: bus
    path: /dev/ttyRS485
    class: weather
    modbus:
      every: 5s
      servers:
        - address: 1
          registers:
            - { name: wind_speed_m_s, function: 4, at: 0, scale: 0.1, none: [65535] }
            - { name: rain_mm, at: 10, type: f32, words: little }
            - { at: 12, bits: [{ name: heating, at: 0 }, { name: state, at: 4, width: 2, values: { 1: measuring } }] }
            - { name: door_open, function: 2, at: 3 }
        - { address: 247, source: pump, class: power, every: 1m, timeout: 1s, retries: 0, registers: [{ name: v, at: 0 }] }
  - name: soil
    path: /dev/ttySDI
    sdi12:
      sensors:
        - { address: "0", values: [soil_water_percent, null, { name: t_c, scale: 0.1, none: [-9999] }] }
        - { address: "0", measure: CC1, values: [conductivity_us_cm] }
  - name: co2
    path: /dev/ttyCO2
    framing: fixed
    length: 9
    header: ff 86
    codec: binary
    layout: { fields: [{ name: co2_ppm, type: u16, at: 2 }] }
    poll: { framed: true, start: [{ text: "go\\r" }], requests: [{ send: ff 01 86 00 00 00 00 00 79 }] }
`;

const port = (rest: string): string => `serial: [{ name: a, path: /d, ${rest} }]`;
const server = (rest: string): string => port(`modbus: { servers: [{ address: 1, ${rest} }] }`);
const sensor = (rest: string): string => port(`sdi12: { sensors: [{ address: "0", ${rest} }] }`);
const V = "registers: [{ name: v, at: 0 }]";

/** YAML, and the one problem that it has. */
const ONE_PROBLEM: readonly (readonly [yaml: string, problem: RegExp])[] = [
  [port("class: x"), /serial\[0\].codec: is missing: it says how a frame is read/],
  [port(`codec: json, modbus: { servers: [{ address: 1, ${V} }] }`), /codec: is of no use with `modbus`/],
  [port(`checksum: { type: sum8 }, sdi12: { sensors: [{ address: "0", values: [x] }] }`), /checksum: is of no use/],
  [port("poll: { requests: [{ text: x }] }"), /codec: is missing/],
  [
    port(`modbus: { servers: [{ address: 1, ${V} }] }, sdi12: { sensors: [{ address: "0", values: [x] }] }`),
    /sdi12: stands beside `modbus`: a port is polled in one way/,
  ],
  [port(`modbus: { servers: [{ address: 1, ${V} }, { address: 1, ${V} }] }`), /servers\[1\].address: 1 is that of/],
  [port(`modbus: { servers: [{ address: 0, ${V} }] }`), /address: must be 1 or more/],
  [port(`modbus: { servers: [{ address: 248, ${V} }] }`), /address: must be 247 or less/],
  [port("modbus: { servers: [] }"), /servers: must not be empty/],
  [port(`modbus: { timeout: 2m, servers: [{ address: 1, ${V} }] }`), /timeout: must be 1m or less/],
  [server("registers: [{ at: 0 }]"), /registers\[0\].name: is missing: a register has a name, or `bits`/],
  [server("registers: [{ name: v, at: 65536 }]"), /registers\[0\].at: must be 65535 or less/],
  [
    server("registers: [{ name: v, at: 400001 }]"),
    /at: must be 65535 or less, not 400001; if it is a manual's number, write `at: 0` with `function: 3`$/,
  ],
  [server("registers: [{ name: v, at: 365536 }]"), /not 365536; .* write `at: 65535` with `function: 4`$/],
  [server("registers: [{ name: v, at: 465537 }]"), /at: must be 65535 or less, not 465537$/],
  [server("registers: [{ name: v, at: 65535, type: u32 }]"), /registers\[0\].at: reaches beyond the last address/],
  [server("registers: [{ name: v, at: 0 }, { name: v, at: 1 }]"), /registers\[1\].name: `v` stands twice among/],
  [server("registers: [{ name: v, at: 0, function: 5 }]"), /function: must be one of 1, 2, 3, 4, not 5/],
  [server("registers: [{ name: v, at: 0, type: uint16 }]"), /type: must be one of bit, u16, i16, u32, /],
  [server("registers: [{ name: v, at: 0, type: bit }]"), /type: must not be bit with function 3: a bit of a register/],
  [server("registers: [{ name: v, at: 0, function: 1, type: u16 }]"), /type: must not be u16 with function 1/],
  [server("registers: [{ name: v, at: 0, function: 1, scale: 2 }]"), /scale: is of no use with a single bit/],
  [server("registers: [{ name: v, at: 0, scale: 0 }]"), /scale: must not be 0/],
  [server("registers: [{ at: 0, bits: [{ name: b, at: 16 }] }]"), /bits: `b` reaches beyond the 16 bits of u16/],
  [server("registers: [{ at: 0, type: f32, bits: [{ name: b, at: 1 }] }]"), /bits: is of no use with type f32/],
  [sensor("values: [x, x]"), /values\[1\]: `x` stands twice among the sensor's values/],
  [sensor("values: [null]"), /values: must name one value at least/],
  [sensor("values: [{ name: x, scale: 0 }]"), /values\[0\].scale: must not be 0/],
  [sensor("values: [{ scale: 2 }]"), /values\[0\].name: is missing/],
  [sensor("values: [7]"), /values\[0\]: must be .*text or a mapping of keys, not 7/],
  [sensor("measure: X, values: [x]"), /measure: must be one of M, M1, /],
  [port("sdi12: { sensors: [{ address: 0, values: [x] }] }"), /address: must be text \(put it in quotes\), not 0/],
  [
    port('sdi12: { sensors: [{ address: "0", values: [x] }, { address: "0", values: [x] }] }'),
    /sensors\[1\].measure: M of 0 is that of sdi12.sensors\[0\] too/,
  ],
  [port("codec: json, poll: { requests: [{}] }"), /poll.requests\[0\].send: is missing: a command has its bytes here/],
  [port("codec: json, poll: { requests: [{ send: '00', text: x }] }"), /requests\[0\].send: stands beside `text`/],
  [port("codec: json, poll: { requests: [{ send: '0' }] }"), /requests\[0\].send: is not hexadecimal/],
  [port("codec: json, poll: { requests: [{ text: x }], start: [{}] }"), /poll.start\[0\].send: is missing/],
];

/** A register, and what is to be written instead, where it is likely to be a manual's number. */
const DOUBTS: readonly (readonly [register: string, instead: string | undefined])[] = [
  ["at: 40001", "`at: 0` with `function: 3`"],
  ["at: 40108, function: 3", "`at: 107` with `function: 3`"],
  ["at: 49999", "`at: 9998` with `function: 3`"],
  ["at: 30001, function: 4", "`at: 0` with `function: 4`"],
  ["at: 30001", "`at: 0` with `function: 4`"],
  ["at: 39999", "`at: 9998` with `function: 4`"],
  ["at: 10001, function: 2", "`at: 0` with `function: 2`"],
  ["at: 10001", undefined],
  ["at: 40001, function: 1", undefined],
  ["at: 40000", undefined],
  ["at: 50000", undefined],
  ["at: 0", undefined],
];

describe("ports whose devices are asked", () => {
  test("everything that may be said of them is taken, and shown as it may be written", async (t) => {
    const { config, warnings } = await load(t, EVERYTHING);
    assert.equal(warnings.length, 1, "that there is no uplink");
    const [bus, soil, co2] = config.serial;
    assert.deepEqual(
      [bus?.modbus?.every, bus?.modbus?.timeout, bus?.modbus?.retries, bus?.modbus?.servers[1]?.every],
      [5000, 500, 1, 60_000],
    );
    assert.equal(bus?.modbus?.servers[0]?.registers[1]?.function, 3);
    assert.deepEqual([soil?.sdi12?.every, soil?.sdi12?.timeout, soil?.sdi12?.sensors[0]?.measure], [60_000, 1000, "M"]);
    assert.deepEqual([co2?.poll?.every, co2?.poll?.timeout, co2?.poll?.retries], [10_000, 1000, 1]);
    assert.deepEqual((await load(t, JSON.stringify(presentable(config)))).config, config);
  });

  for (const [yaml, problem] of ONE_PROBLEM)
    test(`${problem.source}`, async (t) => {
      const problems = await problemsOf(t, yaml);
      assert.equal(problems.length, 1, problems.join("\n"));
      assert.match(String(problems[0]), problem);
    });

  for (const [register, instead] of DOUBTS)
    test(`a register ${register} is ${instead === undefined ? "not doubted" : `doubted: ${instead}`}`, async (t) => {
      const { warnings } = await load(t, server(`registers: [{ name: v, ${register} }]`));
      const [doubt, ...others] = warnings.filter(({ path }) => path.startsWith("serial"));
      assert.deepEqual(others, []);
      const at = /\d+/.exec(register)?.[0];
      const message = `${at} is sent as it stands; if it is a manual's number, write ${instead}`;
      assert.deepEqual(doubt, instead && { path: "serial[0].modbus.servers[0].registers[0].at", message, line: 1 });
    });

  test("a server whose registers all look like a manual's numbers is doubted once", async (t) => {
    const registers = [40001, 40002, 40003].map((at) => `{ name: v${at}, at: ${at} }`).join(", ");
    const { warnings } = await load(t, server(`registers: [{ name: u, at: 7 }, ${registers}]`));
    const [doubt, ...others] = warnings.filter(({ path }) => path.startsWith("serial"));
    assert.deepEqual(others, []);
    assert.equal(doubt?.path, "serial[0].modbus.servers[0].registers[1].at");
    assert.match(doubt.message, /function: 3` \(and likewise 2 more of the server's registers\)$/);
  });
});
