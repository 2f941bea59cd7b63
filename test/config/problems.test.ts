import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { loadConfig } from "#src/config/load.js";
import { load, problemsOf } from "./fixture.ts";

const TOO_LARGE = `# ${"x".repeat(1024 * 1024)}\n`;
const BOMB = `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n`;

/** YAML, and the one problem that it has. */
const ONE_PROBLEM: readonly (readonly [yaml: string, problem: string | RegExp])[] = [
  // Unknown keys.
  ["uplink:\n  batch:\n    maxReading: 5", "line 3: uplink.batch.maxReading: unknown key; did you mean `maxReadings`?"],
  ["gatway: {}", "line 1: gatway: unknown key; did you mean `gateway`?"],
  ["http:\n  colour: red", /^line 2: http.colour: unknown key; known here: bind, port, tls, auth, /],
  ["http:\n  address: ::1", /^line 2: http.address: unknown key; known here: bind, port, tls, auth, /],
  ["foo: 1", /^line 1: foo: unknown key; known here: gateway, /],
  ["uplink: { token: x }", "line 1: uplink.token: unknown key; did you mean `tokenFile`?"],
  ["dataDir: /x", /^line 1: dataDir: unknown key; `dataDir` belongs under `gateway`; known here: gateway, /],
  ["baudRate: 9600", /^line 1: baudRate: unknown key; `baudRate` belongs under `serial\[\]`; known here: gateway, /],
  ["class: x", /; `class` belongs under `mqtt.routes\[\]` or under `serial\[\]`; known here: /],
  ["gateway: { http: {} }", /^line 1: gateway.http: unknown key; `http` belongs at the top level; known here: id, /],
  ["serial:\n  - { name: a, path: /d, codec: json, baud: 1 }", /^line 2: serial\[0\].baud: unknown key/],
  ["uplink: { 'a/b~c': 1 }", /^line 1: uplink.a\/b~c: unknown key/],
  // Types.
  ["gateway: { id: 014 }", "line 1: gateway.id: must be text (put it in quotes), not 14"],
  ["uplink: 5", "line 1: uplink: must be a mapping of keys, not 5"],
  ["serial: {}", "line 1: serial: must be a list, not a mapping"],
  ["http: { port: .nan }", "line 1: http.port: must be a whole number, not NaN"],
  ["http: { port: 80.5 }", "line 1: http.port: must be a whole number, not 80.5"],
  ["- a", /must be a mapping of keys/],
  // Values.
  ["log: { level: wran }", /^line 1: log.level: must be one of trace, .*, not "wran"; did you mean `warn`\?$/],
  ["mqtt: { anonymous: true }", "line 1: mqtt.anonymous: must be one of never, loopback, always, not true"],
  ["http: { port: 65536 }", "line 1: http.port: must be 65535 or less, not 65536"],
  ["uplink: { breaker: { failureRate: 0 } }", /must be more than 0, not 0$/],
  ["gateway: { location: { lat: 38 } }", "line 1: gateway.location.lon: is missing (Degrees east.)"],
  ["gateway: { dataDir: '' }", "line 1: gateway.dataDir: must not be empty"],
  ["gateway: { id: a/b }", 'line 1: gateway.id: must be 1 to 64 letters, digits, ., _ or -, not "a/b"'],
  ["uplink: { url: fusion }", /^line 1: uplink.url: is not a URL/],
  // Units.
  ["outbox: { maxAge: 30 }", "line 1: outbox.maxAge: must be a duration with its unit, such as 30s, not 30"],
  ["outbox: { maxAge: '30' }", /^line 1: outbox.maxAge: "30" is not a duration: its unit is missing; write it such as/],
  ["outbox: { maxBytes: 2G }", /^line 1: outbox.maxBytes: "2G" is not a size; write it such as 64KiB or 2GiB$/],
  ["outbox: { maxAge: 0s }", 'line 1: outbox.maxAge: must be 1ms or more, not "0s"'],
  ["outbox: { maxBytes: 255KiB }", 'line 1: outbox.maxBytes: must be 256KiB or more, not "255KiB"'],
  ["uplink: { batch: { maxBytes: 511B } }", 'line 1: uplink.batch.maxBytes: must be 512B or more, not "511B"'],
  ["outbox: { commitDelay: { low: 61m } }", 'line 1: outbox.commitDelay.low: must be 1h or less, not "61m"'],
  // Alternatives.
  [
    "serial: [{ name: a, path: /d, codec: csv, columns: [1] }]",
    /columns\[0\]: must be text or a mapping of keys, not 1$/,
  ],
  ["serial: [{ name: a, path: /d, codec: csv, columns: [{ type: text }] }]", /columns\[0\].name: is missing$/],
  // YAML.
  ["log:\n  level: info\n  level: warn", "line 3: the key `level` stands here a second time"],
  [
    "log: [",
    "line 1: the [ on line 1 is not closed: its ] is missing, or what stands up to it is not indented further",
  ],
  ["gateway:\n  id: a\n   dataDir: /d\n   x: 1", "line 3: is indented further than line 2, which has a value already"],
  ["gateway: # a\n  id: 'a'\n   dataDir: /d", "line 3: is indented further than line 2, which has a value already"],
  [
    "gateway:\n  id: a\n dataDir: /d",
    /^line 3: is indented by 1, and line 2 by 2: what belongs together begins in the same/,
  ],
  ["gateway:\n   id: a\n  dataDir: /d\n  x: 1", /^line 3: is indented by 2, and line 2 by 3: /],
  ["serial:\n   - { name: a }\n  - { name: b }\n  - { name: c }", /^line 3: is indented by 2, and line 2 by 3: /],
  ["http: { bind: '::1, port: 8480 }", "line 1: the quote that begins on line 1 is not closed"],
  ["serial:\n  - name: a\n   path: /d\n    codec: json", /^line 3: is indented by 3, and line 2 by 2: /],
  ["gateway:\n  id:a\n  dataDir: /d", "line 2: a space must follow the colon of `id:`"],
  ["gateway:\n  id: a\n  dataDir:/d", "line 3: a space must follow the colon of `dataDir:`"],
  ["gateway:\n  id:a", /^line 1: gateway: must be .*; a space must follow the colon of `id:`$/],
  ["gateway:\n  id a\n  dataDir: /d", "line 2: a colon and a space must follow the key `id`"],
  ["gateway:\n\tid: a", "line 2: a tab stands in the indentation, which YAML wants in spaces"],
  ["gateway:\n  id: a: b", /^line 2: has two keys on one line/],
  [
    "serial:\n  - name: '}'\n  - { name: a,\n      path: /d\nhttp:\n  port: 1",
    /^line 3: the \{ on line 3 is not closed/,
  ],
  ["log:\n  level: 'info\nhttp:\n  port: 1", "line 2: the quote that begins on line 2 is not closed"],
  ["# c\n[gateway]\nid = 'a'\n[http]", /^line 2: this is not YAML: `\[gateway\]` begins a section as TOML/],
  ["id = 5", /^line 1: this is not YAML: write `id: …`/],
  ["log: {}}\nhttp: {}\nmqtt: {}", /^line 1: Unexpected flow-map-end token/],
  ["log: @x", "line 1: Plain value cannot start with reserved character @"],
  ["log: !secret x", /^line 1: .*tag/i],
  ["--- {}\n--- {}", /^line 2: .*multiple documents/],
  [BOMB, /cannot be read as YAML: Excessive alias count/],
  [TOO_LARGE, "is larger than 1 MiB, which no configuration is"],
  ["[".repeat(200_000), /./],
  // What a schema cannot say.
  ["uplink: { url: 'http://fusion.example/x' }", /must begin with https:\/\/: plain http is for loopback only/],
  ["uplink: { url: 'http://128.0.0.1/x' }", /must begin with https:\/\//],
  ["uplink: { url: 'http://127.0.0.1.evil.example/x' }", /must begin with https:\/\//],
  [
    "uplink: { url: 'https://user:s3cret@fusion.example/x' }",
    /^line 1: uplink.url: must hold no user name or password/,
  ],
  ["uplink: { url: 'http://token@127.0.0.1/x' }", /^line 1: uplink.url: must hold no user name or password/],
  ["uplink: { url: 'ftp://127.0.0.1/x' }", "line 1: uplink.url: must begin with https://"],
  [
    "mqtt:\n  listeners:\n    - { bind: ::1, port: 8883, tls: { certFile: /c } }",
    /^line 3: mqtt.listeners\[0\].tls.keyFile: is missing/,
  ],
  [
    "mqtt: { listeners: [{ bind: ::1, port: 1, tls: { certFile: /c, keyFile: /k, clientCertificate: optional } }] }",
    /tls.caFile: is missing/,
  ],
  [
    "mqtt: { listeners: [{ bind: ::1, port: 1 }, { bind: ::1, port: 1 }] }",
    /mqtt.listeners\[1\]: mqtt.listeners\[0\] listens on ::1 port 1 already/,
  ],
  [
    "http: { bind: 0.0.0.0 }",
    /^line 1: http.bind: 0\.0\.0\.0 is not loopback: .*set http\.tls\.certFile and http\.tls\.keyFile/,
  ],
  ["http: { bind: 192.168.1.7, auth: always }", /^line 1: http.bind: 192\.168\.1\.7 is not loopback/],
  ["http: { bind: 127.0.0.1.evil.example }", /^line 1: http.bind: .* is not loopback/],
  ["http: { bind: '::', tls: { certFile: /a } }", "line 1: http.tls.keyFile: is missing: TLS needs it"],
  ["http: { cors: ['*'] }", /^line 1: http.cors\[0\]: must name origins one by one/],
  ["http: { cors: ['https://console.example/'] }", /^line 1: http.cors\[0\]: must be an origin/],
  ["http: { cors: ['null'] }", /^line 1: http.cors\[0\]: must be an origin/],
  ["mqtt: { listeners: [{ bind: 127.0.0.1, port: 8480 }] }", /mqtt.listeners\[0\]: http listens on/],
  [
    "mqtt: { sources: [{ user: 'a/b', names: [x] }] }",
    /^line 1: mqtt.sources\[0\].user: must be 1 to 64 letters, digits, _ or -, not "a\/b"$/,
  ],
  ["mqtt: { sources: [{ user: a }] }", /^line 1: mqtt.sources\[0\].names: is missing/],
  ["mqtt: { routes: [{ topic: 'a/{clas}' }] }", /routes\[0\].topic: level `\{clas\}` must be/],
  ["mqtt: { routes: [{ topic: 'a/x{class}' }] }", /level `x\{class\}` must be/],
  ["mqtt: { routes: [{ topic: '{class}/{class}' }] }", /stands in it twice/],
  ["mqtt: { routes: [{ topic: '{source}/{device}' }] }", /both name the source/],
  ["mqtt: { routes: [{ topic: '{node}/{id}' }] }", /\{node\} and \{id\} both name the source/],
  ["mqtt: { routes: [{ topic: 'a/#/b' }] }", /# must be the last level/],
  ["mqtt: { retained: ['a+'] }", /retained\[0\]: level `a\+` must be/],
  ...["tcp://10.0.0.9", "tcp://:4001", "tcp://h:0", "tcp://h:70000", "tcp://h:1/x", "udp://h:1", "tcp:h:1"].map(
    (path) =>
      [
        `serial: [{ name: a, path: '${path}', codec: json }]`,
        /^line 1: serial\[0\].path: must be a device file, or tcp:\/\/host:port .* is neither$/,
      ] as const,
  ),
  ["serial: [{ name: a, path: /d, codec: binary }]", /serial\[0\].layout: is missing: codec binary needs/],
  ["serial: [{ name: a, path: /d, codec: json, framing: idle }]", /serial\[0\].idle: is missing: framing idle needs/],
  ["serial: [{ name: a, path: /d, codec: json, length: 4 }]", /serial\[0\].length: is of no use with framing lines/],
  ["serial: [{ name: a, path: /d, codec: json, columns: [x] }]", /serial\[0\].columns: is of no use with codec json/],
  [
    "serial: [{ name: a, path: /d, codec: json, framing: fixed, length: 9 }]",
    /serial\[0\].header: is missing: framing fixed finds a frame by its header or its checksum/,
  ],
  [
    "serial: [{ name: a, path: /d, codec: json, framing: fixed, length: 6, header: '42 4d', checksum: { type: crc-32, from: 9 } }]",
    /serial\[0\].checksum: reaches beyond the 6 bytes of a frame/,
  ],
  [
    "serial: [{ name: a, path: /d, codec: json, framing: fixed, length: 5000, header: '42' }]",
    /serial\[0\].length: must not be more than maxFrameBytes, which is 4096/,
  ],
  ["serial: [{ name: a, path: /d, codec: json, header: 42 }]", /serial\[0\].header: must be text \(put it in quotes\)/],
  ["serial: [{ name: a, path: /d, codec: json, header: 4 }]", /header: must be text/],
  ["serial: [{ name: a, path: /d, codec: json, header: '4' }]", /header: is not hexadecimal, two digits a byte/],
  [
    "serial: [{ name: a, path: /d, codec: binary, layout: { fields: [{ type: u8, length: 2, name: x }] } }]",
    /serial\[0\].layout.fields\[0\].length: is of no use in a field of type u8/,
  ],
  [
    "serial: [{ name: a, codec: json }]",
    /serial\[0\].path: is missing: name the device file \(ls .*\), or its USB attributes/,
  ],
  [
    'serial: [{ name: a, path: /d, match: { vendorId: "0403" }, codec: json }]',
    /serial\[0\].path: stands beside `match`: leave one of them out/,
  ],
  ["serial: [{ name: a, match: {}, codec: json }]", /serial\[0\].match/],
  ['serial: [{ name: a, match: { vendorId: "403" }, codec: json }]', /serial\[0\].match.vendorId/],
  ["serial: [{ name: a, path: /d, codec: csv }]", /serial\[0\].columns: is missing: codec csv/],
  [
    "serial: [{ name: a, path: /d, codec: json }, { name: a, path: /e, codec: json }]",
    /serial\[1\].name: `a` is the name of serial\[0\] too/,
  ],
  [
    "serial: [{ name: a, path: /d, codec: json }, { name: b, path: /d, codec: json }]",
    /serial\[1\].path: `\/d` is the path of serial\[0\] too/,
  ],
  ["serial: [{ name: a, path: /d, codec: json, reopen: { initial: 2m } }]", /reopen.initial: must not be longer/],
  ["uplink: { retry: { initial: 2m } }", "line 1: uplink.retry.initial: must not be longer than uplink.retry.max"],
  ["uplink: { retry: { initial: 2s, max: 1s } }", /retry.initial: must not be longer/],
  ["uplink: { retry: { max: 0s } }", 'line 1: uplink.retry.max: must be 1ms or more, not "0s"'],
  ["uplink: { retry: { max: soon } }", /^line 1: uplink.retry.max: "soon" is not a duration/],
  ["uplink: { tls: { certFile: /c } }", "line 1: uplink.tls.keyFile: is missing: certFile is of no use without it"],
  ["uplink: { tls: { keyFile: /k } }", "line 1: uplink.tls.certFile: is missing: keyFile is of no use without it"],
  ["gateway: { dataDir: ~/data }", /^line 1: gateway.dataDir: ~ is not replaced/],
  ["uplink: { tokenFile: '$\u007bHOME}/token' }", /^line 1: uplink.tokenFile: only \$\{CREDENTIALS_DIRECTORY\}\//],
];

test("the hint of a file that is not valid YAML sends nobody to the schema", async (t) => {
  await assert.rejects(load(t, "gateway:\n  id:a\n  dataDir: /d"), ({ hint }: { hint: string }) => {
    assert.doesNotMatch(hint, /config schema/);
    return true;
  });
  await assert.rejects(load(t, "foo: 1"), { hint: /config schema/ });
});

describe("an invalid configuration", () => {
  for (const [yaml, problem] of ONE_PROBLEM) {
    const shown = yaml.length > 90 ? `${yaml.slice(0, 40)}…` : yaml.replaceAll("\n", "⏎");
    test(`is refused with its place and its cure: ${shown}`, async (t) => {
      const problems = await problemsOf(t, yaml);
      const [first = ""] = problems;
      if (typeof problem === "string") assert.equal(first, problem);
      else assert.match(first, problem);
      if (!yaml.startsWith("[[")) assert.equal(problems.length, 1, problems.join("\n"));
    });
  }

  test("has all its problems reported at once, in the order of the file", async (t) => {
    const problems = await problemsOf(
      t,
      "log: { level: loud }\nuplink:\n  url: http://example.com\n  batch: { maxReading: 1 }\n  retry: { max: 1 }\nserial:\n  - { name: a, path: /d, codec: csv }\n  - 5\n",
      { SUMMIT_EDGE__HTTP__PORT: "no" },
    );
    assert.deepEqual(
      problems.map((problem) => problem.split(": ").slice(0, 2).join(": ")),
      [
        "line 1: log.level",
        "line 3: uplink.url",
        "line 4: uplink.batch.maxReading",
        "line 5: uplink.retry.max",
        "line 7: serial[0].columns",
        "line 8: serial[1]",
        "SUMMIT_EDGE__HTTP__PORT: http.port",
      ],
    );
  });

  test("says nothing that a URL hides", async (t) => {
    const problems = await problemsOf(t, "uplink: { url: 'http://user:s3cret@fusion.example/x?key=s3cret' }");
    assert.doesNotMatch(problems.join(), /s3cret/);
    assert.doesNotMatch(
      (await problemsOf(t, "uplink: { url: 'user:s3cret@fusion?key=s3cret ' }\nlog: 5")).join(),
      /s3cret/,
    );
  });

  test("that is not UTF-8 text is refused", async (t) => {
    assert.deepEqual(await problemsOf(t, Uint8Array.of(0x6c, 0xff, 0xfe)), ["is not UTF-8 text"]);
  });

  test("that is not there is refused by name", async () => {
    const file = join("/nonexistent", "gateway.yaml");
    await assert.rejects(
      loadConfig(file, {}),
      /\/nonexistent\/gateway.yaml has 1 problem\n {2}cannot be read: there is no such file/,
    );
  });
});

describe("a valid configuration", () => {
  test("may use plain http to loopback, in each of its spellings", async (t) => {
    for (const host of ["127.0.0.1", "127.9.9.9", "localhost", "[::1]", "LOCALHOST"]) {
      const url = `http://${host}:8490/batch`;
      assert.equal((await load(t, `uplink: { url: '${url}' }`)).config.uplink.url, url);
    }
  });

  test("is warned about what somebody should know, and loaded all the same", async (t) => {
    const { warnings } = await load(
      t,
      "mqtt: { anonymous: always, listeners: [{ bind: 0.0.0.0, port: 1883 }, { bind: 127.0.0.1, port: 1 }] }",
    );
    assert.deepEqual(
      warnings.map(({ path, line }) => [path, line]),
      [
        ["mqtt.listeners[0]", 1],
        ["uplink.url", undefined],
      ],
    );
  });

  test("is warned about a broker that listens and lets nobody log in, and only about such a one", async (t) => {
    const told = async (mqtt: string) =>
      (await load(t, `mqtt: { anonymous: ${mqtt} }`)).warnings.filter(({ path }) => path === "mqtt.anonymous");
    const tls = "certFile: /a, keyFile: /b, caFile: /c";
    for (const closed of [
      "never",
      "never, aclFile: /acl",
      `never, listeners: [{ bind: '::', port: 1, tls: { ${tls}, clientCertificate: none } }]`,
    ]) {
      const [warning] = await told(closed);
      assert.match(
        warning?.message ?? "",
        /^nobody can log in: set `mqtt\.passwordFile`.*devices add.*clientCertificate/,
        closed,
      );
      assert.equal(warning?.line, 1);
    }
    for (const open of [
      "loopback",
      "never, passwordFile: /p",
      "never, passwordFile: '$\u007bCREDENTIALS_DIRECTORY}/passwords'",
      "never, listeners: []",
      ...["required", "optional"].map(
        (asked) =>
          `never, listeners: [{ bind: '::', port: 1 }, { bind: '::', port: 2, tls: { ${tls}, clientCertificate: ${asked} } }]`,
      ),
    ])
      assert.deepEqual(await told(open), [], open);
  });

  test("may open the HTTP API to a network with TLS, and needs no TLS on loopback in any spelling", async (t) => {
    const open = await load(t, "http: { bind: 0.0.0.0, tls: { certFile: /a, keyFile: /b } }");
    assert.equal(open.config.http.tls?.certFile, "/a");
    for (const bind of ["127.0.0.1", "127.3.2.1", "localhost", "::1"])
      assert.equal((await load(t, `http: { bind: '${bind}' }`)).config.http.bind, bind);
  });

  test("may shorten a back-off by its longest wait alone, and the first wait then is no longer", async (t) => {
    const serial = "serial: [{ name: a, path: /d, codec: json, reopen: { max: 300ms } }]";
    const { config } = await load(t, `uplink: { retry: { max: 500ms } }\n${serial}`);
    assert.deepEqual(config.uplink.retry, { initial: 500, max: 500 });
    assert.deepEqual(config.serial[0]?.reopen, { initial: 300, max: 300 });
    const overridden = await load(t, "uplink: { retry: { max: 5s } }", { SUMMIT_EDGE__UPLINK__RETRY__MAX: "20ms" });
    assert.deepEqual(overridden.config.uplink.retry, { initial: 20, max: 20 });
    assert.deepEqual((await load(t, "uplink: { retry: { max: 5s } }")).config.uplink.retry, {
      initial: 1000,
      max: 5000,
    });
  });

  test("may be as small as a test bench wants it", async (t) => {
    const { config } = await load(t, "outbox: { maxBytes: 256KiB }\nuplink: { batch: { maxBytes: 512B } }");
    assert.deepEqual([config.outbox.maxBytes, config.uplink.batch.maxBytes], [262_144, 512]);
  });

  test("may have two listeners on any free port", async (t) => {
    await load(
      t,
      "mqtt: { listeners: [{ bind: ::1, port: 0 }, { bind: ::1, port: 0 }] }\nhttp: { bind: ::1, port: 0 }",
    );
  });

  test("may leave out the certificates of a development listener", async (t) => {
    const { config } = await load(
      t,
      "mqtt: { listeners: [{ bind: ::1, port: 8883, tls: { development: true, clientCertificate: required } }] }",
    );
    assert.equal(config.mqtt.listeners[0]?.tls?.development, true);
  });
});
