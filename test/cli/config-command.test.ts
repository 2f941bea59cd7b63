import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { copyFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { configFile } from "../config/fixture.ts";
import { projectRoot, summitEdge } from "../support/command.ts";

const NONE_INSTALLED = !existsSync("/etc/summit-edge/gateway.yaml");

describe("summit-edge", () => {
  test("alone prints its usage and exits 2; help is a success", async () => {
    const alone = await summitEdge([]);
    assert.equal(alone.status, 2);
    assert.match(alone.stderr, /Usage: summit-edge/);
    for (const args of [["help"], ["--help"], ["help", "run"], ["run", "--help"], ["config", "check", "--help"]]) {
      const help = await summitEdge(args);
      assert.equal(help.status, 0, args.join(" "));
      assert.match(help.stdout, /Usage: [\s\S]*Example:/, args.join(" "));
    }
  });

  test("prints its version", async () => {
    const { status, stdout } = await summitEdge(["--version"]);
    assert.equal(status, 0);
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });

  test("exits 2 for what it does not understand, and says what it may have been", async () => {
    const command = await summitEdge(["confg"]);
    assert.equal(command.status, 2);
    assert.match(command.stderr, /unknown command 'confg'[\s\S]*Did you mean config/);
    const option = await summitEdge(["run", "--cofnig", "x"]);
    assert.equal(option.status, 2);
    assert.match(option.stderr, /unknown option '--cofnig'/);
    assert.equal((await summitEdge(["config"])).status, 2);
    assert.equal((await summitEdge(["toString"])).status, 2);
  });

  test("says how a configuration is named to who gives it as an argument, where the command takes one", async () => {
    for (const command of [["config", "check"], ["status"], ["doctor"], ["run"], ["outbox", "stats"]]) {
      const { status, stderr } = await summitEdge([...command, "gateway.yaml"]);
      assert.equal(status, 2, command.join(" "));
      assert.match(stderr, /^error: too many arguments.* To name a configuration, say --config FILE\.\n/);
    }
    const none = await summitEdge(["config", "schema", "gateway.yaml"]);
    assert.deepEqual([none.status, /too many/.test(none.stderr), /--config FILE/.test(none.stderr)], [2, true, false]);
  });

  test("does not mind when nobody reads its output to the end", async () => {
    const child = spawn(process.execPath, ["dist/main.js", "config", "schema"], {
      cwd: projectRoot,
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.destroy();
    let stderr = "";
    child.stderr.on("data", (text) => {
      stderr += text;
    });
    await once(child, "close");
    assert.equal(child.exitCode, 0);
    assert.equal(stderr, "");
  });
});

describe("summit-edge run", () => {
  test("without a configuration refuses, and says how to get one", { skip: !NONE_INSTALLED }, async () => {
    const { status, stderr } = await summitEdge(["run"]);
    assert.equal(status, 2);
    assert.match(stderr, /^error: no configuration file/);
    assert.match(stderr, /hint: Copy the field default, .*config\/gateway\.yaml, to \/etc\/summit-edge\/gateway\.yaml/);
    assert.match(stderr, /npm start.*config\/demo\.yaml/);
  });

  test("with a file that is not there, or not valid, exits 2 and says what is wrong", async (t) => {
    const absent = await summitEdge(["run", "--config", "/nonexistent.yaml"]);
    assert.equal(absent.status, 2);
    assert.match(absent.stderr, /\/nonexistent.yaml[\s\S]*there is no such file/);
    const invalid = await summitEdge([
      "run",
      "--config",
      await configFile(t, "uplink: { ulr: x }\nhttp: { port: -1 }"),
    ]);
    assert.equal(invalid.status, 2);
    assert.match(invalid.stderr, /line 1: uplink.ulr: unknown key; did you mean `url`\?\n.*line 2: http.port/);
    assert.doesNotMatch(invalid.stderr, /^ +at /m);
  });

  test("shows the stack only when asked for it", async () => {
    const { stderr } = await summitEdge(["run", "--config", "/nonexistent.yaml"], { SUMMIT_EDGE_DEBUG: "1" });
    assert.match(stderr, /^ +at /m);
  });
});

describe("summit-edge config check", () => {
  test("says ok for the field default, and warns that nothing will be sent", async () => {
    const { status, stdout, stderr } = await summitEdge(["config", "check", "--config", "config/gateway.yaml"]);
    assert.deepEqual([status, stdout], [0, "ok\n"]);
    assert.match(stderr, /^warning: .*uplink.url: is not set/);
  });

  test("notes which serial ports are not there now, and says ok all the same", async (t) => {
    const ports = "[{ name: a, path: /dev/none, codec: json }, { name: b, path: 'tcp://h:1', codec: json }]";
    const file = await configFile(t, `uplink: { url: 'https://x.invalid/' }\nserial: ${ports}`);
    const { status, stdout, stderr } = await summitEdge(["config", "check", "--config", file]);
    assert.deepEqual([status, stdout], [0, "ok\n"]);
    assert.match(stderr, /^note: line 2: serial\[0\]\.path: \/dev\/none is not there now; .*doctor serial.*\n$/);
    const { notes } = JSON.parse((await summitEdge(["config", "check", "--json", "--config", file])).stdout);
    assert.deepEqual(
      notes.map(({ path }: { path: string }) => path),
      ["serial[0].path"],
    );
  });

  test("exits 2 with every problem, a line each", async (t) => {
    const file = await configFile(t, "uplink:\n  batch: { maxReading: 5 }\nlog: { level: loud }");
    const { status, stdout, stderr } = await summitEdge(["config", "check", "--config", file], {
      SUMMIT_EDGE__HTTP__PROT: "1",
    });
    assert.deepEqual([status, stdout], [2, ""]);
    assert.match(
      stderr,
      /^error: .* has 3 problems\n {2}line 2: .*\n {2}line 3: .*\n {2}SUMMIT_EDGE__HTTP__PROT: .*\nhint: /,
    );
  });

  test("--json gives the same to a program", async (t) => {
    const file = await configFile(t, "log: { level: loud }");
    const { status, stdout } = await summitEdge(["config", "check", "--json", "--config", file]);
    assert.equal(status, 2);
    const result = JSON.parse(stdout);
    assert.equal(result.ok, false);
    assert.deepEqual([result.problems[0].path, result.problems[0].line], ["log.level", 1]);
    const good = JSON.parse((await summitEdge(["config", "check", "--json", "--config", "config/demo.yaml"])).stdout);
    assert.deepEqual([good.ok, good.problems, good.warnings], [true, [], []]);
  });
});

describe("summit-edge config check, of the files that the configuration names", () => {
  const SITE = `
gateway: { id: sierra-014, dataDir: data }
mqtt:
  passwordFile: passwords
  aclFile: acl
  listeners:
    - bind: 127.0.0.1
      port: 8883
      tls: { certFile: data/certs/server.crt, keyFile: data/certs/server.key, caFile: data/certs/ca.crt, crlFile: data/certs/ca.crl, clientCertificate: required }
http: { tls: { certFile: data/certs/server.crt, keyFile: data/certs/server.key } }
uplink: { url: https://fusion.example/, tokenFile: token, tls: { caFile: fusion-ca.pem } }
`;

  test("names each that is missing, and the command that makes it; with those made, it says ok", async (t) => {
    const config = await configFile(t, SITE);
    const folder = dirname(config);
    const summit = (...args: string[]) => summitEdge([...args, "--config", config]);
    const missing = JSON.parse((await summit("config", "check", "--json")).stdout);
    assert.equal(missing.ok, false);
    const listener = "mqtt.listeners[0].tls";
    const of = (command: string) =>
      new RegExp(`Make it with summit-edge ${command.replace("CONFIG", `--config ${config}`)}$`);
    const [issue, init] = [of("certs issue CONFIG --server"), of("certs init CONFIG")];
    const expected: [string, string, RegExp][] = [
      ["mqtt.passwordFile", "passwords", of("devices add CONFIG NAME --generate")],
      ["mqtt.aclFile", "acl", /Put it there/],
      [`${listener}.certFile`, "data/certs/server.crt", issue],
      [`${listener}.keyFile`, "data/certs/server.key", issue],
      [`${listener}.caFile`, "data/certs/ca.crt", init],
      [`${listener}.crlFile`, "data/certs/ca.crl", init],
      ["http.tls.certFile", "data/certs/server.crt", issue],
      ["http.tls.keyFile", "data/certs/server.key", issue],
      ["uplink.tls.caFile", "fusion-ca.pem", /Put it there/],
      ["uplink.tokenFile", "token", /Put it there/],
    ];
    const problems = missing.problems as { path: string; message: string; line: number }[];
    assert.deepEqual(
      problems.map(({ path }) => path),
      expected.map(([path]) => path),
    );
    for (const [index, [, file, advice]] of expected.entries()) {
      const message = problems[index]?.message ?? "";
      assert.ok(message.startsWith(`${join(folder, file)} cannot be read: ENOENT. `), message);
      assert.match(message, advice);
    }
    for (const command of [
      ["certs", "init"],
      ["certs", "issue", "--server"],
      ["devices", "add", "a", "--generate"],
    ])
      assert.equal((await summit(...command)).status, 0, command.join(" "));
    await writeFile(join(folder, "acl"), "pattern write telemetry/%u\n");
    await writeFile(join(folder, "token"), "abc\n", { mode: 0o600 });
    await copyFile(join(folder, "data/certs/ca.crt"), join(folder, "fusion-ca.pem"));
    assert.deepEqual(await summit("config", "check"), { status: 0, stdout: "ok\n", stderr: "" });

    await writeFile(join(folder, "acl"), "tpic a\n");
    await writeFile(join(folder, "token"), "a b\n", { mode: 0o600 });
    await writeFile(join(folder, "data/certs/ca.crl"), "nothing\n");
    await copyFile(join(folder, "data/certs/ca.key"), join(folder, "data/certs/server.key"));
    await writeFile(join(folder, "fusion-ca.pem"), "nothing\n");
    const broken = await summit("config", "check");
    assert.equal(broken.status, 2);
    for (const line of [
      /line 5: mqtt\.aclFile: .*acl: line 1: .*Mend these lines/,
      /line 9: mqtt\.listeners\[0\]\.tls: .*server\.crt and .*server\.key do not belong together/,
      /line 10: http\.tls: .* do not belong together/,
      /line 11: uplink\.tokenFile: .*token does not hold a token/,
      /line 11: uplink\.tls\.caFile: .*fusion-ca\.pem holds no authority's certificate/,
    ])
      assert.match(broken.stderr, line);
    assert.match(broken.stderr, /^error: .* has 5 problems$/m);
  });

  test("says what makes it in the words of `run`", async (t) => {
    const tls = "tls: { certFile: data/certs/server.crt, keyFile: data/certs/server.key }";
    const config = await configFile(
      t,
      `gateway: { dataDir: data }\nhttp: { port: 0 }\nmqtt: { listeners: [{ bind: 127.0.0.1, port: 0, ${tls} }] }`,
    );
    const run = await summitEdge(["run", "--config", config]);
    assert.equal(run.status, 1);
    const advice = `Make it with summit-edge certs issue --config ${config} --server`;
    assert.match(run.stderr, /^error: .*server\.crt cannot be read: ENOENT\nhint: .*\n$/m);
    assert.ok(run.stderr.includes(`\nhint: ${advice}.\n`), run.stderr);
    const check = await summitEdge(["config", "check", "--config", config]);
    assert.ok(check.stderr.includes(`server.crt cannot be read: ENOENT. ${advice}\n`), check.stderr);
  });

  test("asks for nothing that `run` makes by itself, or that the configuration does not use", async (t) => {
    const development = "mqtt: { listeners: [{ bind: 127.0.0.1, port: 8883, tls: { development: true } }] }";
    const config = await configFile(t, `gateway: { dataDir: data }\n${development}\nuplink: { tokenFile: none }\n`);
    const { status, stderr } = await summitEdge(["config", "check", "--config", config]);
    assert.equal(status, 0, stderr);
  });
});

describe("summit-edge config show", () => {
  const ENV = {
    SUMMIT_EDGE__UPLINK__URL: "https://fusion.example/a?token=s3cret",
    SUMMIT_EDGE__HTTP__PORT: "8481",
  };

  test("prints what is in effect as YAML, secrets redacted", async () => {
    const { status, stdout } = await summitEdge(["config", "show", "--config", "config/gateway.yaml"], ENV);
    assert.equal(status, 0);
    assert.doesNotMatch(stdout, /s3cret/);
    const shown = parse(stdout);
    assert.equal(shown.http.port, 8481);
    assert.equal(shown.outbox.maxBytes, "2GiB");
  });

  test("--json --origin says where each value was written", async (t) => {
    const file = await configFile(t, "log:\n  level: warn\n");
    const { stdout } = await summitEdge(["config", "show", "--json", "--origin", "--config", file], ENV);
    assert.doesNotMatch(stdout, /s3cret/);
    const { config, origin } = JSON.parse(stdout);
    assert.equal(config.log.level, "warn");
    assert.deepEqual(
      [origin["log.level"], origin["log.format"], origin["http.port"], origin["mqtt.listeners[0].bind"]],
      ["line 2", "default", "SUMMIT_EDGE__HTTP__PORT", "default"],
    );
    const yaml = await summitEdge(["config", "show", "--origin", "--config", file], ENV);
    assert.match(yaml.stdout, /^ {2}level: warn # line 2$/m);
    assert.match(yaml.stdout, /^ {2}port: 8481 # SUMMIT_EDGE__HTTP__PORT$/m);
  });
});

describe("summit-edge config schema", () => {
  test("prints a JSON Schema, --json or not", async () => {
    const { status, stdout } = await summitEdge(["config", "schema"]);
    assert.equal(status, 0);
    assert.deepEqual(await summitEdge(["config", "schema", "--json"]), { status, stdout, stderr: "" });
    const schema = JSON.parse(stdout);
    assert.equal(schema.$schema, "http://json-schema.org/draft-07/schema#");
    assert.equal(schema.properties.outbox.properties.maxAge.default, "30d");
    assert.equal(new RegExp(schema.properties.outbox.properties.maxAge.pattern).test("30"), false);
  });
});
