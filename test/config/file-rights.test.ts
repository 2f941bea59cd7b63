import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { barrierTo, hasRight } from "#src/config/file-rights.js";
import { summitEdge } from "../support/command.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const daemon = { uid: 990, gid: 990 };

test("the bits of whoever one is decide: the owner's, the group's, else everybody's", () => {
  const may = (mode: number, uid: number, gid: number) => hasRight(daemon, { mode, uid, gid }, 4);
  assert.deepEqual([may(0o400, 990, 0), may(0o040, 990, 990), may(0o004, 990, 990)], [true, false, false]);
  assert.deepEqual(
    [may(0o040, 0, 990), may(0o004, 0, 990), may(0o004, 0, 0), may(0o640, 0, 0)],
    [true, false, true, false],
  );
  assert.equal(hasRight(daemon, { mode: 0o711, uid: 0, gid: 0 }, 1), true);
  assert.equal(hasRight({ uid: 0, gid: 0 }, { mode: 0, uid: 990, gid: 990 }, 4), true);
});

const skip = process.getuid?.() === 0 ? false : "only root can give files away";

test("config check tells root which file the gateway's user cannot read, and what is in the way", {
  skip,
}, async (t) => {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  const [data, secrets, token] = ["data", "secrets", "token"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const made of [data, secrets]) mkdirSync(made);
  chownSync(data, daemon.uid, daemon.gid);
  writeFileSync(token, "x\n", { mode: 0o600 });
  const config = join(folder, "gateway.yaml");
  const check = async (file: string): Promise<string> => {
    writeFileSync(config, `gateway: { dataDir: data }\nuplink: { url: https://fusion.example/, tokenFile: ${file} }\n`);
    const { status, stderr } = await summitEdge(["config", "check", "--config", config]);
    assert.equal(status, 0, stderr);
    return stderr;
  };
  assert.match(
    await check(token),
    /^warning: line 2: uplink\.tokenFile: .*not by the gateway's user.*: chown 990:990 .*token$/m,
  );
  chownSync(token, daemon.uid, daemon.gid);
  assert.equal(await check(token), "");
  chmodSync(secrets, 0o700);
  writeFileSync(join(secrets, "token"), "x\n", { mode: 0o644 });
  assert.equal(await barrierTo(join(secrets, "token"), daemon), secrets);
  assert.match(await check(join(secrets, "token")), /LoadCredential=.*the rights of .*secrets are in the way/);
});
