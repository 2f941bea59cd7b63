import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { DataDirLock } from "#src/outbox/data-dir-lock.js";
import { type Finished, summitEdge } from "../support/command.ts";
import { MachineClock, skipWithoutFaketime } from "../support/machine-clock.ts";
import { run, skipWithout } from "../support/programs.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const skip = skipWithout("openssl");
const DAY_S = 86_400;

interface Certificate {
  readonly kind: string;
  readonly name: string;
  readonly state: string;
  readonly serial: string;
  readonly notAfter: string;
  readonly certFile: string;
  readonly keyFile?: string;
  readonly caFile: string;
  readonly crlFile: string;
  readonly pkcs12File: string;
  readonly pkcs12PasswordFile?: string;
}

interface Site {
  readonly folder: string;
  readonly config: string;
  certs(...args: readonly string[]): Promise<Finished>;
  /** The result of a command that succeeds. */
  json<T>(...args: readonly string[]): Promise<T>;
}

/** A gateway's configuration, and, unless it is to be bare, an authority. */
async function site(t: TestContext, { bare = false, certs = {} } = {}): Promise<Site> {
  const folder = temporaryFolder(t);
  const config = join(folder, "gateway.yaml");
  const gateway = { id: "sierra-014", dataDir: join(folder, "data") };
  writeFileSync(config, JSON.stringify({ gateway, certs, uplink: { url: "http://127.0.0.1:1/" } }));
  const run = (...args: readonly string[]) => summitEdge(["certs", ...args, "--config", config]);
  const json = async <T>(...args: readonly string[]): Promise<T> => {
    const { status, stdout, stderr } = await run(...args, "--json");
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout) as T;
  };
  if (!bare) await json("init");
  return { folder: join(folder, "data", "certs"), config, certs: run, json };
}

function openssl(...args: readonly string[]): { status: number | null; output: string } {
  return run("openssl", args);
}

describe("certs init", () => {
  it("makes a P-256 authority whose key is its owner's alone, and never a second one", async (t) => {
    const { folder, certs, json } = await site(t, { bare: true });
    const made = await json<Certificate>("init");
    assert.equal(statSync(made.keyFile ?? "").mode & 0o777, 0o600);
    const ca = new X509Certificate(readFileSync(made.caFile));
    assert.equal(ca.ca, true);
    assert.equal(ca.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
    const before = readdirSync(folder).map((file) => [file, statSync(join(folder, file)).mtimeMs]);
    const again = await certs("init");
    assert.equal(again.status, 1);
    assert.match(again.stderr, /holds an authority already/);
    assert.match(again.stderr, /hint: .*certs status/);
    assert.deepEqual(
      readdirSync(folder).map((file) => [file, statSync(join(folder, file)).mtimeMs]),
      before,
    );
  });

  it("calls the authority what it is told to, letter by letter", async (t) => {
    const { folder, certs, json } = await site(t, { bare: true });
    for (const name of ["", " ", "a\nb"]) assert.equal((await certs("init", "--name", name)).status, 2);
    const name = '#7 "North, O=Ridge" \\ Höhe';
    const { caFile } = await json<Certificate>("init", "--name", name);
    const subject = openssl("x509", "-in", caFile, "-noout", "-subject", "-nameopt", "oneline,utf8,-esc_msb").output;
    assert.match(subject, /^subject=CN = "?\\?#7 \\"North, O=Ridge\\" \\\\ Höhe"?$/m);
    const { certFile } = await json<Certificate>("issue", "--device", "mast-3");
    assert.match(
      openssl("verify", "-x509_strict", "-crl_check", "-CAfile", caFile, "-CRLfile", join(folder, "ca.crl"), certFile)
        .output,
      /: OK/,
    );
  });

  for (const [umask, dataDir] of [
    [0o000, 0o750],
    [0o077, 0o700],
  ] as const) {
    it(`lets the daemon's user read what is no secret, and others not look into the dataDir: umask ${umask.toString(8)}`, async (t) => {
      const { folder, json } = await site(t, { bare: true });
      const before = process.umask(umask);
      t.after(() => process.umask(before));
      await json<Certificate>("init");
      const { certFile } = await json<Certificate>("issue", "--server");
      const modes = [join(folder, ".."), folder, certFile, join(folder, "ca.crl"), join(folder, "devices")].map(
        (path) => statSync(path).mode & 0o777,
      );
      assert.deepEqual(modes, [dataDir, 0o755, 0o644, 0o644, 0o700]);
    });
  }

  it("keeps the key under a passphrase from a file, which each command that signs then needs", async (t) => {
    const { folder, config, certs, json } = await site(t, { bare: true });
    const file = join(folder, "..", "..", "passphrase");
    writeFileSync(file, "correct horse\n", { mode: 0o600 });
    const made = await json<Certificate>("init", "--passphrase-file", file);
    assert.match(readFileSync(made.keyFile ?? "", "utf8"), /BEGIN ENCRYPTED PRIVATE KEY/);
    const without = await certs("issue", "--device", "mast-3");
    assert.equal(without.status, 1);
    assert.match(without.stderr, /hint: .*--passphrase-file/);
    const issued = await certs("issue", "--device", "mast-3", "--passphrase-file", file);
    assert.equal(issued.status, 0);
    assert.match(issued.stdout, /Its client id in MQTT must be mast-3, the certificate's name/);
    const named = { SUMMIT_EDGE__CERTS__PASSPHRASEFILE: file };
    const configured = await summitEdge(["certs", "issue", "--device", "mast-4", "--config", config], named);
    assert.equal(configured.status, 0, configured.stderr);
    writeFileSync(file, "wrong horse\n");
    assert.match((await certs("revoke", "mast-3", "--passphrase-file", file)).stderr, /passphrase is not that of/);
    chmodSync(file, 0o644);
    assert.match((await certs("status")).stderr, /^$/);
    assert.match((await certs("revoke", "mast-3", "--passphrase-file", file)).stderr, /warning: everybody .* may read/);
  });

  it("is what every other command asks for where there is none", async (t) => {
    const { folder, certs } = await site(t, { bare: true });
    for (const args of [["issue", "--server"], ["renew"], ["revoke", "mast-3"], ["status"], ["list"]]) {
      const { status, stderr } = await certs(...args);
      assert.equal(status, 1);
      assert.match(stderr, /hint: .*make one: summit-edge certs init --config /);
    }
    assert.equal(existsSync(folder), false);
  });
});

describe("certs issue", { skip }, () => {
  it("gives a device a certificate that OpenSSL takes for a client's, and for nothing else", async (t) => {
    const { json } = await site(t);
    const { certFile, keyFile = "", caFile } = await json<Certificate>("issue", "--device", "mast-3");
    const verify = (purpose: string) =>
      openssl("verify", "-x509_strict", "-CAfile", caFile, "-purpose", purpose, certFile);
    assert.match(verify("sslclient").output, /: OK/);
    assert.notEqual(verify("sslserver").status, 0);
    const text = openssl("x509", "-in", certFile, "-noout", "-text").output;
    assert.match(text, /Subject: CN ?= ?mast-3\n/);
    assert.match(text, /Subject Alternative Name: *\n *DNS:mast-3\n/);
    assert.match(text, /Key Usage: critical\n *Digital Signature\n/);
    assert.match(text, /Basic Constraints: critical\n *CA:FALSE/);
    assert.equal(statSync(keyFile).mode & 0o777, 0o600);
    assert.ok(Date.parse(new X509Certificate(readFileSync(certFile)).validFrom) < Date.now() - 29 * DAY_S * 1000);
  });

  it("gives the gateway one for its names and addresses", async (t) => {
    const { json } = await site(t);
    const args = ["issue", "--server", "--name", "gw.example", "--address", "192.0.2.7", "--address", "2001:db8::7"];
    const { certFile, caFile } = await json<Certificate>(...args);
    const certificate = new X509Certificate(readFileSync(certFile));
    for (const name of ["localhost", "gw.example", hostname()]) assert.equal(certificate.checkHost(name), name);
    for (const address of ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"])
      assert.equal(certificate.checkIP(address), address);
    assert.match(
      openssl("verify", "-x509_strict", "-CAfile", caFile, "-purpose", "sslserver", certFile).output,
      /: OK/,
    );
    assert.notEqual(openssl("verify", "-CAfile", caFile, "-purpose", "sslclient", certFile).status, 0);
  });

  it("writes IPv6 addresses in every notation as what they are, and refuses one with a zone", async (t) => {
    const { certs, json } = await site(t);
    const given = ["::ffff:192.0.2.7", "64:ff9b::192.0.2.8", "2001:DB8:0:0::9"];
    const { certFile } = await json<Certificate>("issue", "--server", ...given.flatMap((ip) => ["--address", ip]));
    const certificate = new X509Certificate(readFileSync(certFile));
    for (const address of given) assert.ok(certificate.checkIP(address), `${address}: ${certificate.subjectAltName}`);
    assert.equal((await certs("issue", "--server", "--force", "--address", "fe80::1%lo")).status, 2);
  });

  it("makes a PKCS#12 bundle that OpenSSL opens with the password beside it, and with no other", async (t) => {
    const { json } = await site(t);
    const issued = await json<Certificate>("issue", "--device", "mast-3", "--pkcs12");
    const { pkcs12File, pkcs12PasswordFile = "", certFile, keyFile = "" } = issued;
    for (const file of [pkcs12File, pkcs12PasswordFile]) assert.equal(statSync(file).mode & 0o777, 0o600);
    const open = (...args: readonly string[]) => openssl("pkcs12", "-in", pkcs12File, "-passin", ...args);
    const opened = open(`file:${pkcs12PasswordFile}`, "-nodes", "-info");
    assert.equal(opened.status, 0, opened.output);
    for (const file of [certFile, keyFile, issued.caFile])
      assert.ok(opened.output.includes(readFileSync(file, "utf8").trim()));
    assert.match(opened.output, /friendlyName: mast-3/);
    assert.match(opened.output, /MAC: sha256/);
    assert.match(opened.output, /Shrouded Keybag: PBES2, PBKDF2, AES-256-CBC/);
    assert.notEqual(open("pass:wrong", "-noout").status, 0);
  });

  it("makes the bundle again where a device that has one is renewed, and for no other", async (t) => {
    const { json } = await site(t);
    await json<Certificate>("issue", "--device", "mast-3", "--pkcs12");
    await json<Certificate>("issue", "--device", "mast-4");
    const renew = async (device: string) => (await json<{ renewed: Certificate[] }>("renew", device)).renewed[0];
    const renewed = await renew("mast-3");
    assert.ok(renewed?.pkcs12PasswordFile);
    const password = ["-passin", `file:${renewed.pkcs12PasswordFile}`];
    const opened = openssl("pkcs12", "-in", renewed.pkcs12File, ...password, "-nodes");
    assert.ok(opened.output.includes(readFileSync(renewed.certFile, "utf8").trim()), opened.output);
    assert.equal((await renew("mast-4"))?.pkcs12File, undefined);
  });

  it("puts a bundle under a password that is given, and writes that nowhere", async (t) => {
    const { folder, json } = await site(t);
    const file = join(folder, "..", "password");
    writeFileSync(file, "bundle-password-7\n", { mode: 0o600 });
    const issued = await json<Certificate>("issue", "--device", "mast-3", "--pkcs12-password-file", file);
    assert.equal(issued.pkcs12PasswordFile, undefined);
    assert.equal(openssl("pkcs12", "-in", issued.pkcs12File, "-passin", `file:${file}`, "-noout").status, 0);
    for (const name of readdirSync(folder, { recursive: true }) as string[]) {
      if (statSync(join(folder, name)).isFile()) {
        assert.ok(!readFileSync(join(folder, name), "latin1").includes("bundle-password-7"), name);
      }
    }
  });

  it("certifies the key of a signing request for the device that it names", async (t) => {
    const { folder, certs, json } = await site(t);
    const [csr, key] = [join(folder, "..", "d.csr"), join(folder, "..", "d.key")];
    const subject = ["-subj", "/O=whatever/CN=mast-9", "-addext", "subjectAltName=DNS:evil.example"];
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", csr, ...subject);
    const { certFile, caFile, keyFile } = await json<Certificate>("issue", "--csr", csr);
    assert.equal(keyFile, undefined);
    const { subject: dn, subjectAltName } = new X509Certificate(readFileSync(certFile));
    assert.deepEqual([dn, subjectAltName], ["CN=mast-9", "DNS:mast-9"]);
    assert.match(openssl("verify", "-CAfile", caFile, "-purpose", "sslclient", certFile).output, /: OK/);
    assert.equal((await certs("issue", "--csr", csr, "--device", "mast-8")).status, 2);
    assert.equal((await certs("issue", "--csr", csr, "--pkcs12")).status, 2);
  });

  it("asks for the device's id where a signing request names none, or two", async (t) => {
    const { folder, certs } = await site(t);
    const csr = join(folder, "..", "d.csr");
    for (const subject of ["/O=whatever", "/CN=mast-8/CN=mast-9"]) {
      openssl("req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", `${csr}.key`, "-out", csr, "-subj", subject);
      const { status, stderr } = await certs("issue", "--csr", csr);
      assert.equal(status, 2);
      assert.match(stderr, /not exactly one common name: give the device's id with --device/);
      assert.equal((await certs("issue", "--csr", csr, "--device", "mast-9", "--force")).status, 0);
    }
  });

  it("refuses a second one for a device, and says how to go on; an id that is none is a wrong call", async (t) => {
    const { certs } = await site(t);
    assert.equal((await certs("issue", "--device", "mast-3")).status, 0);
    const second = await certs("issue", "--device", "mast-3");
    assert.equal(second.status, 1);
    assert.match(second.stderr, /hint: .*renew it: summit-edge certs renew --config \S+ --device mast-3\n$/);
    assert.equal((await certs("issue", "--device", "mast-3", "--force")).status, 0);
    for (const id of ["a/b", "+", "#", "", "..", "a b", "x".repeat(65)]) {
      assert.equal((await certs("issue", "--device", id)).status, 2, id);
    }
    assert.equal((await certs("issue", "--device", "x".repeat(64))).status, 0);
    for (const args of [
      [],
      ["--device", "a", "--server"],
      ["--device", "a", "--name", "b"],
      ["--server", "--pkcs12"],
    ]) {
      assert.equal((await certs("issue", ...args)).status, 2);
    }
  });

  it("waits for nobody: a command beside another one says so", async (t) => {
    const { folder, certs } = await site(t);
    const lock = DataDirLock.acquire(folder);
    const { status, stderr } = await certs("issue", "--device", "mast-3");
    assert.equal(status, 1);
    assert.match(stderr, /another certs command is at work/);
    assert.equal((await certs("status")).status, 0);
    lock.release();
    assert.equal((await certs("issue", "--device", "mast-3")).status, 0);
  });
});

describe("certs revoke", { skip }, () => {
  it("revokes all of a device's certificates, in a list that OpenSSL takes; others go on", async (t) => {
    const { folder, certs, json } = await site(t);
    const crl = join(folder, "ca.crl");
    const first = await json<Certificate>("issue", "--device", "mast-3");
    writeFileSync(join(folder, "first.crt"), readFileSync(first.certFile));
    const { renewed } = await json<{ renewed: Certificate[] }>("renew", "mast-3");
    const other = await json<Certificate>("issue", "--device", "mast-4");
    const verify = (file: string) =>
      openssl("verify", "-crl_check_all", "-CRLfile", crl, "-CAfile", first.caFile, file);
    const files = [join(folder, "first.crt"), renewed[0]?.certFile ?? ""];
    for (const file of [...files, other.certFile]) assert.match(verify(file).output, /: OK/);
    const { revoked } = await json<{ revoked: Certificate[] }>(
      "revoke",
      "--device",
      "mast-3",
      "--reason",
      "keyCompromise",
    );
    assert.equal(revoked.length, 2);
    for (const file of files) assert.match(verify(file).output, /certificate revoked/);
    assert.match(verify(other.certFile).output, /: OK/);
    const text = openssl("crl", "-in", crl, "-CAfile", first.caFile, "-noout", "-text").output;
    assert.match(text, /verify OK/);
    assert.equal(text.match(/Key Compromise/g)?.length, 2);
    const again = await json<{ revoked: Certificate[]; already: number }>("revoke", "mast-3");
    assert.deepEqual([again.revoked.length, again.already], [0, 2]);
    assert.equal((await certs("issue", "--device", "mast-3")).status, 0);
    assert.equal((await certs("revoke", "nobody")).status, 1);
    for (const args of [[], ["--server", "--device", "a"], ["mast-4", "--reason", "because"]]) {
      assert.equal((await certs("revoke", ...args)).status, 2);
    }
  });

  it("revokes one by its serial number as OpenSSL prints it", async (t) => {
    const { json } = await site(t);
    const { serial } = await json<Certificate>("issue", "--device", "mast-3");
    const shown = serial.toUpperCase().replace(/..(?=.)/g, "$&:");
    const { revoked } = await json<{ revoked: Certificate[] }>("revoke", "--serial", shown);
    assert.deepEqual(
      revoked.map((each) => each.serial),
      [serial],
    );
  });

  it("says when a revocation takes effect, and which listener goes on letting revoked devices in", async (t) => {
    const { config, folder, json, certs } = await site(t);
    await json("issue", "--server");
    const [certFile, keyFile, caFile, crlFile] = ["server.crt", "server.key", "ca.crt", "ca.crl"].map((file) =>
      join(folder, file),
    );
    const tls = { certFile, keyFile, caFile, clientCertificate: "required" };
    const listeners = (...all: object[]) => {
      const mqtt = { listeners: all.map((each, index) => ({ bind: "127.0.0.1", port: 28_883 + index, tls: each })) };
      writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, "utf8")), mqtt }));
    };
    listeners({ ...tls, crlFile });
    await json("issue", "--device", "mast-3");
    const revoked = await certs("revoke", "mast-3");
    assert.equal(revoked.stderr, "");
    assert.match(revoked.stdout, /within ten seconds.*systemctl reload summit-edge\n$/);
    assert.match((await certs("renew", "--server")).stdout, /within ten seconds.*systemctl reload summit-edge\n$/);

    listeners({ ...tls, crlFile }, tls);
    const still =
      /mqtt\.listeners\[1\]\.tls.*crlFile.* revoked certificates \(mast-3\) are still let in: set crlFile: /;
    assert.match((await certs("revoke", "mast-3")).stderr, still);
    const checked = await summitEdge(["config", "check", "--config", config]);
    assert.equal(checked.status, 0, checked.stderr);
    assert.match(checked.stderr, still);
    const { findings } = JSON.parse((await summitEdge(["doctor", "--json", "--config", config])).stdout);
    assert.ok(findings.some(({ detail }: { detail: string }) => detail === "mqtt.listeners[1].tls.crlFile is missing"));
  });

  it("leaves the list valid as long as the authority, from the authority's beginning on", async (t) => {
    const { folder, json } = await site(t);
    await json("issue", "--device", "mast-3");
    await json("revoke", "mast-3");
    const dates = openssl("crl", "-in", join(folder, "ca.crl"), "-noout", "-lastupdate", "-nextupdate").output;
    const ca = new X509Certificate(readFileSync(join(folder, "ca.crt")));
    assert.equal(dates, `lastUpdate=${ca.validFrom}\nnextUpdate=${ca.validTo}\n`);
  });
});

describe("certs status and renew", { skip: skipWithoutFaketime }, () => {
  /** Runs a command of the site so many days from now. */
  async function in_(t: TestContext, site: Site, days: number, ...args: readonly string[]) {
    mkdirSync(join(site.folder, ".."), { recursive: true });
    const clock = new MachineClock(temporaryFolder(t));
    clock.set(days * DAY_S);
    const [program = "", ...under] = clock.under;
    const command = [...under, process.execPath, "dist/main.js", "certs", ...args, "--config", site.config, "--json"];
    const { status, output } = run(program, command, { cwd: new URL("../../../", import.meta.url).pathname });
    return {
      status,
      output,
      json: <T>() => JSON.parse(output.slice(output.indexOf("{"), output.lastIndexOf("}") + 1)) as T,
    };
  }
  const states = (list: readonly Certificate[]) => Object.fromEntries(list.map(({ kind, state }) => [kind, state]));

  it("is 1 from two thirds of a lifetime on, and 0 again after the renewal", async (t) => {
    const gateway = await site(t, { certs: { deviceLifetime: "90d", serverLifetime: "365d" } });
    await gateway.json("issue", "--device", "mast-3");
    await gateway.json("issue", "--server");
    type Result = { ok: boolean; certificates: Certificate[] };
    const early = await in_(t, gateway, 55, "status");
    assert.deepEqual([early.status, early.json<Result>().ok], [0, true], early.output);
    const late = await in_(t, gateway, 62, "status");
    assert.deepEqual([late.status, late.json<Result>().ok], [1, false]);
    assert.deepEqual(states(late.json<Result>().certificates), {
      authority: "valid",
      server: "valid",
      device: "renewal-due",
    });
    const renewed = await in_(t, gateway, 62, "renew");
    const names = renewed.json<{ renewed: Certificate[] }>().renewed.map(({ name }) => name);
    assert.deepEqual(names, ["mast-3"]);
    assert.equal((await in_(t, gateway, 62, "status")).status, 0);
    const gone = await in_(t, gateway, 400, "status");
    assert.equal(gone.status, 1);
    assert.deepEqual(states(gone.json<Result>().certificates), {
      authority: "valid",
      server: "expired",
      device: "expired",
    });
  });

  it("renews the authority when that is due, and does not let what was issued die of it", { skip }, async (t) => {
    const gateway = await site(t);
    const { certFile, caFile } = await gateway.json<Certificate>("issue", "--device", "mast-3");
    const days = 7 * 365;
    const renewed = (await in_(t, gateway, days, "renew")).json<{ renewed: Certificate[] }>().renewed;
    assert.deepEqual(
      renewed.map(({ kind }) => kind),
      ["authority", "device"],
    );
    const at = ["-attime", String(Math.floor(Date.now() / 1000) + days * DAY_S)];
    const verified = openssl(
      "verify",
      ...at,
      "-CAfile",
      caFile,
      "-crl_check",
      "-CRLfile",
      join(gateway.folder, "ca.crl"),
      certFile,
    );
    assert.match(verified.output, /: OK/);
    assert.equal((await in_(t, gateway, days, "status")).status, 0);
  });

  it("judges by what it knows, and says so, where the clock is behind; nothing is taken away", async (t) => {
    const gateway = await site(t);
    await gateway.json("issue", "--device", "mast-3");
    const behind = await in_(t, gateway, -40 * 365, "status");
    assert.equal(behind.status, 0, behind.output);
    assert.match(behind.output, /warning: the clock of this machine says 19.*timedatectl/);
    const { notAfter } = (await in_(t, gateway, -40 * 365, "issue", "--device", "mast-4")).json<Certificate>();
    assert.ok(Date.parse(notAfter) > Date.now() + 700 * DAY_S * 1000);
  });

  it("keeps the key where it is on the device alone, or where that is asked for", async (t) => {
    const gateway = await site(t);
    const spki = (file: string) =>
      new X509Certificate(readFileSync(file)).publicKey.export({ type: "spki", format: "pem" });
    const { certFile } = await gateway.json<Certificate>("issue", "--device", "mast-3");
    const first = spki(certFile);
    await gateway.json("renew", "--device", "mast-3", "--keep-key");
    assert.equal(spki(certFile), first);
    await gateway.json("renew", "--device", "mast-3");
    assert.notEqual(spki(certFile), first);
  });

  it("says of a certificate that somebody else issued what ends when, and that it cannot be read", async (t) => {
    const gateway = await site(t);
    const { certFile } = await gateway.json<Certificate>("issue", "--device", "other");
    const folder = temporaryFolder(t);
    const config = join(folder, "gateway.yaml");
    const tls = { certFile, keyFile: "/nowhere.key", caFile: "/nowhere.crt", clientCertificate: "required" };
    const listeners = [{ bind: "127.0.0.1", port: 0, tls }];
    writeFileSync(config, JSON.stringify({ gateway: { dataDir: join(folder, "data") }, mqtt: { listeners } }));
    const { status, stdout } = await summitEdge(["certs", "status", "--config", config, "--json"]);
    assert.equal(status, 0);
    const seen = (JSON.parse(stdout) as { certificates: Certificate[] }).certificates;
    assert.deepEqual(
      seen.map(({ name, state }) => [name, state]),
      [
        ["mqtt.listeners[0].tls.certFile", "valid"],
        ["mqtt.listeners[0].tls.caFile", "unreadable"],
      ],
    );
    const forPeople = await summitEdge(["certs", "status", "--config", config]);
    assert.match(forPeople.stdout, /1 cannot be read: summit-edge config check --config \S+ says why/);
  });
});
