import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type AccessPolicy, type ClientIdentity, decide, isLoopback } from "#src/identity/access.js";

const local: ClientIdentity = { clientId: "node-7", username: undefined, certificateName: undefined, loopback: true };
const remote: ClientIdentity = { ...local, loopback: false };
const policy = (anonymous: AccessPolicy["anonymous"]): AccessPolicy => ({ anonymous });

describe("connect", () => {
  for (const [anonymous, here, elsewhere] of [
    ["never", false, false],
    ["loopback", true, false],
    ["always", true, true],
  ] as const) {
    it(`without credentials under anonymous: ${anonymous}`, () => {
      assert.equal(decide({ action: "connect", identity: local }, policy(anonymous)).allowed, here);
      assert.equal(decide({ action: "connect", identity: remote }, policy(anonymous)).allowed, elsewhere);
    });
  }

  it("with a verified certificate is allowed from anywhere, under the certificate's name only", () => {
    const certified = { ...remote, certificateName: "node-7" };
    assert.equal(decide({ action: "connect", identity: certified }, policy("never")).allowed, true);
    assert.equal(
      decide({ action: "connect", identity: { ...certified, clientId: "x" } }, policy("always")).allowed,
      false,
    );
    for (const name of ["a/b", "+", "#", "", "x".repeat(65)]) {
      const identity = { ...remote, clientId: name, certificateName: name };
      assert.equal(decide({ action: "connect", identity }, policy("always")).allowed, false, name);
    }
  });

  it("with a user name that nothing can verify is bad credentials, unless anybody may come in", () => {
    const named = { ...remote, username: "me" };
    const denied = decide({ action: "connect", identity: named }, policy("loopback"));
    assert.equal(denied.allowed === false && denied.badCredentials, true);
    assert.equal(decide({ action: "connect", identity: named }, policy("always")).allowed, true);
  });

  it("with an endless client id is refused", () => {
    const identity = { ...local, clientId: "x".repeat(257) };
    assert.equal(decide({ action: "connect", identity }, policy("always")).allowed, false);
  });
});

describe("topics", () => {
  it("that begin with $ are for no client", () => {
    for (const action of ["publish", "will", "subscribe", "receive"] as const) {
      assert.equal(decide({ action, identity: local, topic: "$SYS/x" }, policy("always")).allowed, false);
      assert.equal(decide({ action, identity: local, topic: "a/$SYS" }, policy("always")).allowed, true);
    }
  });
});

describe("loopback addresses", () => {
  it("are those of this machine, in every spelling that a socket uses", () => {
    for (const address of ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
      assert.equal(isLoopback(address), true);
    for (const address of ["10.0.0.1", "::ffff:10.0.0.1", "::", "1270.0.0.1", undefined]) {
      assert.equal(isLoopback(address), false);
    }
  });
});
