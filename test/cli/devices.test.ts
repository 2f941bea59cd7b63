import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { PasswordCheck, parsePasswords } from "#src/identity/passwords.js";
import { configFile } from "../config/fixture.ts";
import { projectRoot } from "../support/command.ts";
import { missing, run } from "../support/commands.ts";

const MAIN = join(projectRoot, "dist/main.js");

interface Rig {
  readonly file: string;
  devices(args: readonly string[], input?: string): Promise<{ status: number | null; output: string }>;
  /** Whether the password of a user in the file is this one. */
  fits(user: string, password: string): Promise<boolean>;
}

async function rig(t: TestContext, mqtt = "passwordFile: passwords"): Promise<Rig> {
  const config = await configFile(t, `gateway: { dataDir: data }\nmqtt: { ${mqtt} }\n`);
  const file = join(dirname(config), "passwords");
  return {
    file,
    devices: (args, input) => run(process.execPath, [MAIN, "devices", ...args, "--config", config], input),
    fits: async (user, password) => {
      const parsed = parsePasswords(readFileSync(file, "utf8"));
      assert.ok("entries" in parsed);
      const { signal } = new AbortController();
      const attempt = { user, password: Buffer.from(password), address: "127.0.0.1", signal };
      return (await new PasswordCheck().verify(parsed.entries, attempt)) !== "wrong";
    },
  };
}

describe("devices add", () => {
  it("takes a password from standard input or a file, and keeps only its hash, for the owner's eyes", async (t) => {
    const { devices, file, fits } = await rig(t);
    const added = await devices(["add", "mast-3"], "correct horse\n");
    assert.equal(added.status, 0, added.output);
    assert.match(
      added.output,
      /^mast-3 may log in\.\nA running gateway .* within ten seconds.*systemctl reload summit-edge$/m,
    );
    assert.equal(statSync(file).mode & 0o7777, 0o600);
    assert.doesNotMatch(readFileSync(file, "utf8") + added.output, /correct|horse/);
    assert.ok(await fits("mast-3", "correct horse"));

    const secret = join(dirname(file), "secret");
    writeFileSync(secret, "battery staple\r\nsecond line\n");
    assert.equal((await devices(["add", "mast-4", "--password-file", secret])).status, 0);
    assert.ok(await fits("mast-4", "battery staple"));
    assert.ok(await fits("mast-3", "correct horse"));
  });

  it("makes a password, and shows it once", async (t) => {
    const { devices, file, fits } = await rig(t);
    const { output } = await devices(["add", "mast-3", "--generate"]);
    const [, password = ""] = /^password: (\S{24})\n/.exec(output) ?? [];
    assert.ok(await fits("mast-3", password), output);
    const other = JSON.parse((await devices(["add", "mast-4", "--generate", "--json"])).output);
    assert.deepEqual(other, { name: "mast-4", file, replaced: false, password: other.password });
    assert.ok(await fits("mast-4", other.password));
  });

  it("gives a device that is there another password only where that is said", async (t) => {
    const { devices, file, fits } = await rig(t);
    await devices(["add", "mast-3"], "first");
    writeFileSync(file, `# kept\n${readFileSync(file, "utf8")}# kept too\n`);
    const again = await devices(["add", "mast-3"], "second");
    assert.equal(again.status, 1);
    assert.match(again.output, /there is a device mast-3 already\nhint: Say --replace/);
    assert.ok(await fits("mast-3", "first"));
    assert.equal((await devices(["add", "mast-3", "--replace"], "second")).status, 0);
    assert.ok(await fits("mast-3", "second"));
    assert.match(readFileSync(file, "utf8"), /^# kept\nmast-3:\S+\n# kept too\n$/);
  });

  it("loses none of several that are added at once", async (t) => {
    const { devices, file } = await rig(t);
    const names = Array.from({ length: 6 }, (_, index) => `node-${index}`);
    const added = await Promise.all(names.map((name) => devices(["add", name, "--generate"])));
    assert.deepEqual(
      added.map(({ status }) => status),
      names.map(() => 0),
    );
    const parsed = parsePasswords(readFileSync(file, "utf8"));
    assert.deepEqual("entries" in parsed && [...parsed.entries.keys()].sort(), names);
    assert.ok(!existsSync(`${file}.new`));
  });

  it("refuses what cannot be, and changes nothing", async (t) => {
    const { devices, file } = await rig(t);
    const wrong: [string[], string, number, RegExp][] = [
      [["add", "a/b", "--generate"], "", 2, /a device's name is 1 to 64 letters, digits, _ or -/],
      [["add", "+", "--generate"], "", 2, /a device's name is/],
      [["add", "a", "--generate", "--password-file", "x"], "", 2, /either --generate or --password-file/],
      [["add", "a"], "", 1, /no password came on standard input\nhint: /],
      [["add", "a"], "\nsecond line", 1, /no password came/],
      [["add", "a"], "x".repeat(1025), 2, /at most 1024 bytes/],
      [["add", "a", "--password-file", "/nowhere/at/all"], "", 1, /cannot read \/nowhere/],
      [["add", "a", "s3cret"], "", 2, /too many arguments/],
    ];
    for (const [args, input, status, message] of wrong) {
      const refused = await devices(args, input);
      assert.match(refused.output, message);
      assert.equal(refused.status, status, refused.output);
    }
    assert.ok(!existsSync(file));
  });

  it("asks a person twice, without an echo", { skip: missing("script") }, async (t) => {
    const { devices, file, fits } = await rig(t);
    const config = join(dirname(file), "gateway.yaml");
    const command = `${process.execPath} ${MAIN} devices add mast-3 --config ${config}`;
    const expect = `
      import { spawn } from "node:child_process";
      const child = spawn("script", ["-qec", process.argv[1], "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
      const answers = ["correct horse\\r", "correct horse\\r"];
      let seen = "";
      child.stdout.on("data", (chunk) => {
        process.stdout.write(chunk);
        seen += chunk;
        if (/: $/.test(seen) && answers.length > 0) {
          seen = "";
          child.stdin.write(answers.shift());
        }
      });
      child.on("close", (status) => process.exit(status));`;
    const { status, output } = await run(process.execPath, ["--input-type=module", "-e", expect, command]);
    assert.equal(status, 0, output);
    assert.match(output, /New password: [\s\S]*again: [\s\S]*mast-3 may log in/);
    assert.match((await devices(["list"])).output, /mast-3/);
    assert.ok(await fits("mast-3", "correct horse"));
  });

  it("where the configuration names no file says which key does", async (t) => {
    const { devices } = await rig(t, "");
    const { status, output } = await devices(["add", "a", "--generate"]);
    assert.equal(status, 2);
    assert.match(output, /names no mqtt\.passwordFile[\s\S]*\nhint: Set mqtt\.passwordFile/);
  });
});

describe("devices list", () => {
  it("tells what each may do, and for whom it may speak", async (t) => {
    const mqtt = "passwordFile: passwords, aclFile: acl, sources: [{ user: conc, names: ['tank-*'] }]";
    const { devices, file } = await rig(t, mqtt);
    const rules = ["user mast-3", "topic deny x/#", "pattern write telemetry/%u", "pattern read cmd/%c"];
    writeFileSync(join(dirname(file), "acl"), rules.join("\n"));
    await devices(["add", "mast-4", "--generate"]);
    const { output } = await devices(["list"]);
    assert.match(output, /^device +password +may +speaks for\n/);
    assert.match(output, /^conc +no +write telemetry\/conc; read cmd\/%c +tank-\*$/m);
    assert.match(output, /^mast-3 +no +deny x\/#; write telemetry\/mast-3; read cmd\/%c$/m);
    assert.match(output, /^mast-4 +yes +write telemetry\/mast-4; read cmd\/%c$/m);
    const listed = JSON.parse((await devices(["list", "--json"])).output);
    assert.deepEqual(listed[2], {
      name: "mast-4",
      password: true,
      rules: [
        { access: "write", filter: "telemetry/mast-4" },
        { access: "read", filter: "cmd/%c" },
      ],
      sources: [],
    });
  });

  it("lists them although the access rules are missing or broken, and says so", async (t) => {
    const { devices, file } = await rig(t, "passwordFile: passwords, aclFile: acl");
    await devices(["add", "mast-4", "--generate"]);
    const acl = join(dirname(file), "acl");
    const missing = await devices(["list"]);
    assert.equal(missing.status, 0);
    assert.match(missing.output, /^mast-4 +yes +not known$/m);
    assert.match(missing.output, /^warning: .*not known.*acl cannot be read: ENOENT\. Put the access rules there/m);
    writeFileSync(acl, "tpic x");
    const broken = await devices(["list", "--json"]);
    assert.equal(broken.status, 0);
    assert.match(broken.output, /^warning: .*acl: line 1: /m);
    const [listed] = JSON.parse(broken.output.slice(broken.output.search(/^\[/m), broken.output.lastIndexOf("]") + 1));
    assert.deepEqual(listed, { name: "mast-4", password: true, sources: [] });
  });

  it("lists those of the access rules where there are no passwords", async (t) => {
    const { devices, file } = await rig(t, "aclFile: acl");
    writeFileSync(join(dirname(file), "acl"), "user mast-3\ntopic write a/#\n");
    const { status, output } = await devices(["list"]);
    assert.equal(status, 0);
    assert.match(output, /^mast-3 +no +write a\/#$/m);
    assert.match(output, /^warning: no mqtt\.passwordFile/m);
  });

  it("of none says how to make one", async (t) => {
    const { devices } = await rig(t);
    assert.match(
      (await devices(["list"])).output,
      /There are no devices\. To make one: summit-edge devices add --config \S+ NAME --generate$/m,
    );
    assert.deepEqual(JSON.parse((await devices(["list", "--json"])).output), []);
  });
});

describe("devices remove", () => {
  it("takes away all that are named, or none where one is unknown", async (t) => {
    const { devices, file } = await rig(t);
    for (const name of ["a", "b", "c"]) await devices(["add", name, "--generate"]);
    const before = readFileSync(file, "utf8");
    const unknown = await devices(["remove", "a", "x"]);
    assert.equal(unknown.status, 1);
    assert.match(unknown.output, /no device has a password and is called x; nothing was changed\nhint: /);
    assert.equal(readFileSync(file, "utf8"), before);
    assert.equal((await devices(["remove", "a", "c"])).status, 0);
    assert.deepEqual(
      JSON.parse((await devices(["list", "--json"])).output).map(({ name }: { name: string }) => name),
      ["b"],
    );
    assert.equal(statSync(file).mode & 0o7777, 0o600);
  });
});
