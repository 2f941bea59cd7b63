import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { rootNode, type SchemaNode } from "#src/config/schema-node.js";
import { exposure, secretFiles } from "#src/config/secret-files.js";
import { summitEdge } from "../support/command.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const exposed = (mode: number, uid = 0, gid = 0, group = 990) => exposure({ mode, uid, gid }, group);

test("a secret that somebody else may read or change is named as such, whoever it is", () => {
  assert.equal(exposed(0o100600), undefined);
  assert.equal(exposed(0o100400, 990, 990), undefined);
  assert.match(exposed(0o100644) ?? "", /everybody .* may read/);
  assert.match(exposed(0o100602) ?? "", /everybody .* may change/);
  assert.match(exposed(0o100640) ?? "", /its group may read/);
  assert.match(exposed(0o100640, 1000, 990) ?? "", /its group may read/);
  assert.match(exposed(0o100660, 0, 990) ?? "", /its group may change/);
});

test("a file of root's that the daemon's own group may read is as it should be", () => {
  assert.equal(exposed(0o100640, 0, 990), undefined);
});

/** Every key of the schema that names a file, by its path without positions. */
function fileKeys(node: SchemaNode, path = ""): string[] {
  if (node.format === "path") return [path];
  const children = Object.entries(node.properties ?? {}).flatMap(([key, child]) => fileKeys(child, `${path}.${key}`));
  return [...children, ...(node.items === undefined ? [] : fileKeys(node.items, path))];
}

test("of every file that the configuration may name it is known whether it is a secret", () => {
  const isSecret = (key: string): boolean => secretFiles({ [key.slice(key.lastIndexOf(".") + 1)]: "/x" }).length > 0;
  const keys = [...new Set(fileKeys(rootNode))].sort();
  const open = keys.filter((key) => !isSecret(key)).map((key) => key.slice(key.lastIndexOf(".") + 1));
  // A new key that holds a secret must end in keyFile, tokenFile, passwordFile, passphraseFile or secretFile.
  assert.deepEqual([...new Set(open)].sort(), ["aclFile", "caFile", "certFile", "crlFile", "dataDir"]);
  assert.ok(keys.filter(isSecret).length >= 4);
});

test("config check says which secret others may read, where it was written, and how to mend it", async (t) => {
  const folder = temporaryFolder(t);
  const token = join(folder, "token");
  writeFileSync(token, "x\n");
  const config = join(folder, "gateway.yaml");
  writeFileSync(config, `gateway: { id: a }\nuplink:\n  url: https://fusion.example/\n  tokenFile: ${token}\n`);
  for (const [mode, said] of [
    [0o644, true],
    [0o640, true],
    [0o600, false],
  ] as const) {
    chmodSync(token, mode);
    const { status, stderr } = await summitEdge(["config", "check", "--config", config]);
    assert.equal(status, 0);
    const expected = `warning: line 4: uplink.tokenFile: ${token} is a secret`;
    assert.equal(stderr.includes(expected) && stderr.includes(`chmod 600 ${token}`), said, stderr);
  }
});

test("what systemd hands over is as it should be, whatever its mode", async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, "token"), "x\n", { mode: 0o644 });
  const config = join(folder, "gateway.yaml");
  // biome-ignore lint/suspicious/noTemplateCurlyInString: as systemd's users write it
  writeFileSync(config, "uplink: { url: https://fusion.example/, tokenFile: '${CREDENTIALS_DIRECTORY}/token' }\n");
  const { status, stderr } = await summitEdge(["config", "check", "--config", config], {
    CREDENTIALS_DIRECTORY: folder,
  });
  assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
});
