/** The Debian package, installed, upgraded, removed and purged in a Debian of its own. */
import assert from "node:assert/strict";
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";
import { Collector } from "../support/collector.ts";
import { DebianRoot, noDebianRoot, type Outcome } from "../support/debian-root.ts";
import { device } from "../support/device.ts";
import { freePort } from "../support/free-port.ts";
import { deadLinks } from "../support/links.ts";
import { projectRoot, run } from "../support/programs.ts";

const [OLD, NEW] = ["0.1.0", "0.2.0"];
const CONFIG = "/etc/summit-edge/gateway.yaml";
const OUTBOX = "/var/lib/summit-edge/outbox.db";
/** The Debian shares this machine's network, on which another gateway may listen: it is not to be asked what waits in this one. */
const UNASKED = ["env", "SUMMIT_EDGE__HTTP__PORT=1"];
/** What `systemctl enable` makes. */
const ENABLED = "/etc/systemd/system/multi-user.target.wants/summit-edge.service";
/** Stands in for systemd: notes what it is told. */
const SYSTEMCTL = `#!/bin/sh
echo "$*" >>/systemctl.log
case "$*" in
  *is-enabled*) [ -L ${ENABLED} ] && echo enabled ;;
  *preset*) ln -s /usr/lib/systemd/system/summit-edge.service ${ENABLED} ;;
  *is-active*) exit 3 ;;
esac
`;

describe("the Debian package", { skip: noDebianRoot() }, () => {
  let folder: string;
  let root: DebianRoot;
  let fusion: Collector;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "summit-edge-package-test-"));
    for (const version of [OLD, NEW]) {
      const env = { ...process.env, DPKG_DEB_COMPRESSOR_TYPE: "none" };
      const args = [join(projectRoot, "scripts", "package.mjs"), "--version", version, "--out", folder];
      const { status, output } = run(process.execPath, args, { env });
      assert.equal(status, 0, output);
    }
    root = DebianRoot.make(["adduser", "libstdc++6"]);
    for (const file of readdirSync(folder)) root.copyIn(join(folder, file), `/${file}`);
    fusion = await Collector.start();
    fusion.answer = () => ({ status: 503 });
  });

  after(async () => {
    await fusion?.stop();
    root?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  const inRoot = (path: string): string => root.at(path);
  const text = (path: string): string => readFileSync(inRoot(path), "utf8");
  const packageOf = (version: string): string =>
    `/${readdirSync(folder).find((file) => file.startsWith(`summit-edge_${version}_`))}`;
  const install = (version: string): Outcome => root.run("dpkg", "--install", packageOf(version));
  const commanded = (): string[] => (existsSync(inRoot("/systemctl.log")) ? text("/systemctl.log").split("\n") : []);

  function succeeds({ status, output }: Outcome): string {
    assert.equal(status, 0, output);
    return output;
  }

  /** What dpkg does once an upgrade from `version` is unpacked; `""` where it is the first installation. */
  function configure(version: string): string {
    const script = "/var/lib/dpkg/info/summit-edge.postinst";
    return succeeds(root.run("env", "DPKG_MAINTSCRIPT_PACKAGE=summit-edge", script, "configure", version));
  }

  /** Owner, group and mode, as names. */
  const rights = (path: string): string => succeeds(root.run("stat", "--format=%U:%G %a", path)).trim();

  /** The command of the installed unit, as the unit's user, with these keys in the environment. */
  async function runService(
    t: TestContext,
  ): Promise<{ mqtt: number; http: number; stop: () => Promise<number | null> }> {
    const [mqtt, http] = [await freePort(), await freePort()];
    const command = /^ExecStart=(.*)$/m.exec(text("/usr/lib/systemd/system/summit-edge.service"))?.[1]?.split(" ");
    const child = root.start("summit-edge", command ?? [], {
      SUMMIT_EDGE__MQTT__LISTENERS: JSON.stringify([{ bind: "127.0.0.1", port: mqtt }]),
      SUMMIT_EDGE__HTTP__PORT: String(http),
      SUMMIT_EDGE__LOG__LEVEL: "error",
    });
    t.after(() => child.kill("SIGKILL"));
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    for (;;) {
      const answer = await fetch(`http://127.0.0.1:${http}/readyz`).catch(() => undefined);
      if (answer?.status === 200) break;
      assert.equal(child.exitCode, null, "the daemon ended");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const stop = (): Promise<number | null> => {
      child.kill("SIGTERM");
      return ended;
    };
    return { mqtt, http, stop };
  }

  it("is refused whole where Node.js is the one of Debian 12", () => {
    root.pretend("nodejs", "18.20.4+dfsg-1~deb12u3");
    const { status, output } = install(OLD);
    assert.notEqual(status, 0);
    assert.match(output, /summit-edge pre-depends on nodejs \(>= \d+/);
    assert.match(output, /nodejs is installed, but is version 18\.20\.4/);
    assert.equal(existsSync(inRoot("/usr/lib/summit-edge")), false);
  });

  it("is refused beside an installation by device/install.sh", () => {
    root.pretend("nodejs", `${process.versions.node}-1nodesource1`);
    root.write("/opt/summit-edge/dist/main.js", "");
    root.write("/etc/systemd/system/summit-edge.service", "");
    const { status, output } = install(OLD);
    assert.notEqual(status, 0);
    assert.match(output, /device\/install\.sh --uninstall/);
    rmSync(inRoot("/opt/summit-edge"), { recursive: true });
    rmSync(inRoot("/etc/systemd/system/summit-edge.service"));
  });

  it("says so where /usr/bin/node is not what the package nodejs promises", () => {
    root.write("/usr/bin/node", '#!/bin/sh\n[ "$1" = --version ] || exit 1\necho v18.0.0\n', 0o755);
    const { status, output } = install(OLD);
    assert.notEqual(status, 0);
    assert.match(output, /the program does not run with v18\.0\.0\./);
    assert.match(output, /dpkg --configure summit-edge/);
    root.copyIn(process.execPath, "/usr/bin/node");
  });

  it("installs the program with its user, and does not start before it knows where to send", () => {
    const output = succeeds(root.run("dpkg", "--configure", "summit-edge"));
    assert.match(
      output,
      /not started.*\n.*set uplink\.url.*\n.*config check\n.*systemctl enable --now summit-edge\n.*sudo summit-edge status/,
    );
    assert.equal(existsSync(inRoot(ENABLED)), false);
    assert.equal(succeeds(root.run("summit-edge", "--version")).trim(), OLD);
    assert.match(succeeds(root.run("summit-edge", "config", "check")), /uplink\.url: is not set/);
    assert.equal(rights(CONFIG), "root:summit-edge 640");
    assert.equal(rights("/etc/summit-edge/secrets"), "root:root 700");
    assert.equal(rights("/var/lib/summit-edge"), "summit-edge:summit-edge 750");
    assert.equal(rights("/usr/lib/summit-edge/dist/main.js"), "root:root 755");
    assert.match(succeeds(root.run("id", "summit-edge")), /\(dialout\)/);
    assert.equal(existsSync(inRoot("/usr/lib/udev/rules.d/70-summit-edge-serial.rules")), true);
    assert.equal(existsSync(inRoot("/usr/lib/summit-edge/dist/test")), false);
    assert.equal(existsSync(inRoot("/usr/lib/summit-edge/node_modules/typescript")), false);
    assert.equal(succeeds(root.run("dpkg", "--verify", "summit-edge")), "");
  });

  it("brings the documents, whose links lead to what is installed, as do those of hints and help", () => {
    const documents = "/usr/share/doc/summit-edge";
    assert.deepEqual(deadLinks(inRoot(documents), root.folder), []);
    root.write("/tmp/acl", "topic everything please\n");
    const acl = root.run("env", "SUMMIT_EDGE__MQTT__ACL_FILE=/tmp/acl", "summit-edge", "config", "check");
    assert.equal(acl.status, 2, acl.output);
    const helps = ["certs", "devices", "keys"].map((group) => succeeds(root.run("summit-edge", group, "--help")));
    const named = [acl.output, ...helps].map((text) => /\/\S+\.md/.exec(text)?.[0]);
    assert.deepEqual(
      named,
      ["docs/access.md", "certs/README.md", "docs/access.md", "docs/http-api.md"].map((page) => join(documents, page)),
    );
    for (const page of named) assert.ok(existsSync(inRoot(page ?? "")), page);
  });

  it("runs as the unit's user on the packaged configuration, and accepts readings", async (t) => {
    const configured = text(CONFIG).replace(/^ {2}#url: .*$/m, `  url: ${fusion.url} # ours`);
    assert.notEqual(configured, text(CONFIG));
    root.write(CONFIG, configured, 0o640);
    const service = await runService(t);
    const client = await device(t, service.mqtt);
    for (const n of [1, 2, 3]) await client.publishAsync("observations/smoke", JSON.stringify({ n }), { qos: 1 });
    await client.endAsync();
    assert.equal(await service.stop(), 0);
    assert.equal(rights(OUTBOX).split(" ")[0], "summit-edge:summit-edge");
  });

  it("is upgraded with its outbox and its configuration, and the service restarts", () => {
    root.write("/usr/bin/systemctl", SYSTEMCTL, 0o755);
    root.write("/run/systemd/system/.keep", "");
    succeeds(root.run("mkdir", "-p", dirname(ENABLED)));
    succeeds(root.run("ln", "-s", "/usr/lib/systemd/system/summit-edge.service", ENABLED));
    const before = statSync(inRoot(OUTBOX)).ino;
    succeeds(install(NEW));
    assert.equal(succeeds(root.run("summit-edge", "--version")).trim(), NEW);
    assert.match(text(CONFIG), /# ours$/m);
    assert.equal(rights(CONFIG), "root:summit-edge 640");
    assert.equal(statSync(inRoot(OUTBOX)).ino, before);
    assert.ok(commanded().includes("--quiet --system restart summit-edge.service"), commanded().join("\n"));
    assert.ok(!commanded().some((line) => line.includes("stop")), "restarted, not stopped for the time of the upgrade");
  });

  it("is upgraded without a restart where the new version refuses the configuration", () => {
    rmSync(inRoot("/systemctl.log"));
    const good = text(CONFIG);
    root.write(CONFIG, `${good}\nunknownKey: 1\n`, 0o640);
    const output = configure(OLD);
    assert.match(output, /unknownKey/);
    assert.match(output, /was not restarted: it goes on with the version before/);
    assert.ok(!commanded().some((line) => line.includes("restart")));
    root.write(CONFIG, good, 0o640);
    succeeds(root.run("chgrp", "summit-edge", CONFIG));
  });

  it("is enabled and started at once where the configuration was there before it", () => {
    rmSync(inRoot("/systemctl.log"));
    rmSync(inRoot(ENABLED));
    rmSync(inRoot("/var/lib/systemd/deb-systemd-helper-enabled"), { recursive: true });
    assert.doesNotMatch(configure(""), /not started/);
    assert.equal(lstatSync(inRoot(ENABLED)).isSymbolicLink(), true);
    assert.ok(commanded().includes("--quiet --system start summit-edge.service"), commanded().join("\n"));
  });

  it("is removed without its outbox and configuration, and says what waits", () => {
    const output = succeeds(root.run(...UNASKED, "dpkg", "--remove", "summit-edge"));
    assert.match(output, /3 readings wait there that have not been delivered/);
    assert.ok(commanded().includes("stop summit-edge.service"), commanded().join("\n"));
    assert.equal(existsSync(inRoot("/usr/lib/summit-edge")), false);
    assert.equal(existsSync(inRoot("/usr/bin/summit-edge")), false);
    assert.ok(statSync(inRoot(OUTBOX)).size > 0);
    assert.match(text(CONFIG), /# ours$/m);
  });

  it("goes on with them when it is installed again", async (t) => {
    rmSync(inRoot("/systemctl.log"));
    succeeds(install(NEW));
    assert.ok(commanded().includes("--quiet --system restart summit-edge.service"), commanded().join("\n"));
    fusion.answer = () => ({ status: 204 });
    const service = await runService(t);
    for (;;) {
      const answer = await fetch(`http://127.0.0.1:${service.http}/api/v1/status`);
      const { ledger } = (await answer.json()) as { ledger: Record<string, number> };
      if (ledger.delivered === 3) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const client = await device(t, service.mqtt);
    fusion.answer = () => ({ status: 503 });
    await client.publishAsync("observations/smoke", '{"n": 4}', { qos: 1 });
    await client.endAsync();
    assert.equal(await service.stop(), 0);
  });

  it("is purged with everything, and says what is thrown away", () => {
    const output = succeeds(root.run(...UNASKED, "dpkg", "--purge", "summit-edge"));
    assert.match(output, /thrown away with \/var\/lib\/summit-edge: 1 readings that had not been delivered/);
    for (const path of ["/etc/summit-edge", "/var/lib/summit-edge"])
      assert.equal(existsSync(inRoot(path)), false, path);
    assert.throws(() => lstatSync(inRoot(ENABLED)), { code: "ENOENT" });
  });

  it("is purged where the outbox has a disk of its own, which is emptied and stays mounted", () => {
    root.copyIn(join(projectRoot, "device/debian/postrm"), "/postrm");
    const state = inRoot(dirname(OUTBOX));
    const script = [
      `mkdir ${state} && mount -t tmpfs none ${state} && mkdir ${state}/lost+found && echo 1 >${inRoot(OUTBOX)}`,
      `chroot ${root.folder} sh /postrm purge`,
      `mountpoint -q ${state} && [ -z "$(ls -A ${state})" ]`,
    ].join(" && ");
    const { status, output } = run("unshare", ["--mount", "sh", "-c", script]);
    assert.equal(status, 0, output);
  });
});
