import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type AccessPolicy,
  type AccessRequest,
  decide,
  isLoopback,
  ownSource,
  type SessionHolder,
} from "#src/identity/access.js";
import { type Acl, parseAcl } from "#src/identity/acl.js";
import { anonymous, certified, user } from "../support/identities.ts";

const local = anonymous("node-7");
const remote = { ...local, loopback: false };
const users = new Map([
  ["mast-3", "entry"],
  ["mast-9", "other entry"],
]);
const policy = (of: AccessPolicy["anonymous"], more: Partial<AccessPolicy> = {}): AccessPolicy => ({
  anonymous: of,
  ...more,
});

function acl(...lines: string[]): Acl {
  const parsed = parseAcl(lines.join("\n"));
  if ("acl" in parsed) return parsed.acl;
  assert.fail(JSON.stringify(parsed.faults));
}

/** `yes`, or why not. */
function answer(request: AccessRequest, of: AccessPolicy): string {
  const decision = decide(request, of);
  return decision.allowed ? "yes" : decision.because;
}

describe("connect", () => {
  for (const [of, here, elsewhere] of [
    ["never", "rights", "rights"],
    ["loopback", "yes", "rights"],
    ["always", "yes", "yes"],
  ] as const) {
    it(`without credentials under anonymous: ${of}`, () => {
      assert.equal(answer({ action: "connect", identity: local }, policy(of)), here);
      assert.equal(answer({ action: "connect", identity: remote }, policy(of)), elsewhere);
    });
  }

  it("with a verified certificate is allowed from anywhere, under the certificate's name only", () => {
    const connect = (name: string, clientId = name): string =>
      answer({ action: "connect", identity: certified(name, clientId) }, policy("never"));
    assert.equal(connect("node-7"), "yes");
    assert.equal(connect("node-7", "x"), "rights");
    for (const name of ["a/b", "+", "#", "", "x".repeat(65)]) assert.equal(connect(name), "rights", name);
  });

  it("with a user name that nothing can verify is bad credentials, unless anybody may come in", () => {
    const identity = { ...remote, username: "me" };
    assert.equal(answer({ action: "connect", identity }, policy("loopback")), "credentials");
    assert.equal(answer({ action: "connect", identity }, policy("always")), "yes");
  });

  it("with a password is allowed where it fits the entry of today, and nowhere else, not on loopback either", () => {
    const connect = (identity: typeof local): string =>
      answer({ action: "connect", identity }, policy("loopback", { users }));
    assert.equal(connect(user("mast-3")), "yes");
    assert.equal(connect(user("mast-3", "any-id")), "yes");
    assert.equal(connect({ ...local, username: "mast-3" }), "credentials");
    assert.equal(connect({ ...local, username: "nobody" }), "credentials");
    assert.equal(connect(user("mast-3", "mast-3", "an entry of yesterday")), "credentials");
    assert.equal(connect(local), "yes");
  });

  it("with an endless client id is refused", () => {
    assert.equal(answer({ action: "connect", identity: anonymous("x".repeat(257)) }, policy("always")), "rights");
  });

  it("with the name of another user for a client id is refused", () => {
    const connect = (identity: typeof local): string =>
      answer({ action: "connect", identity }, policy("loopback", { users }));
    assert.equal(connect(anonymous("mast-3")), "client-id");
    assert.equal(connect(user("mast-3", "mast-9")), "client-id");
    assert.equal(connect(user("mast-3", "mast-3")), "yes");
  });

  it("with a client id that would be more than one name in a rule is refused where rules use it", () => {
    const connect = (clientId: string, ...lines: string[]): string =>
      answer({ action: "connect", identity: anonymous(clientId) }, policy("always", { acl: acl(...lines) }));
    for (const clientId of ["+", "#", "a/b", "a+b", ""]) {
      assert.equal(connect(clientId, "pattern readwrite site/%c/#"), "client-id", clientId);
      assert.equal(connect(clientId, "pattern readwrite site/%u/#"), "yes", clientId);
    }
    assert.equal(connect("00:1b:44", "pattern readwrite site/%c/#"), "yes");
  });

  const held: [string, SessionHolder | undefined, typeof local, string][] = [
    ["nobody", undefined, user("mast-3", "x"), "yes"],
    ["the same user", { name: "mast-3", connected: true }, user("mast-3", "x"), "yes"],
    ["another user who is connected", { name: "mast-9", connected: true }, user("mast-3", "x"), "client-id"],
    ["another user who is away", { name: "mast-9", connected: false }, user("mast-3", "x"), "client-id"],
    ["a user, asked for by an anonymous client", { name: "mast-9", connected: false }, anonymous("x"), "client-id"],
    ["another anonymous client", { name: undefined, connected: true }, anonymous("x"), "yes"],
    ["an anonymous client that is connected", { name: undefined, connected: true }, user("mast-3", "x"), "client-id"],
    ["an anonymous client that is away", { name: undefined, connected: false }, user("mast-3", "x"), "yes"],
    ["another one, asked for by whom it is named after", { name: "mast-9", connected: true }, user("mast-3"), "yes"],
    [
      "another one, asked for by whose certificate says so",
      { name: "mast-9", connected: true },
      certified("node-7"),
      "yes",
    ],
  ];
  for (const [who, holder, identity, expected] of held) {
    it(`under a client id whose session is held by ${who}: ${expected}`, () => {
      assert.equal(answer({ action: "connect", identity, holder }, policy("loopback", { users })), expected);
    });
  }
});

describe("when the password file has changed", () => {
  const cases: [string, ReadonlyMap<string, string> | undefined, string, string][] = [
    ["its entry is the same", users, "yes", "yes"],
    ["its password is another one", new Map([["mast-3", "new"]]), "credentials", "yes"],
    ["it is gone", new Map(), "credentials", "credentials"],
  ];
  for (const [what, now, stay, keep] of cases) {
    it(`a user stays and keeps its session where ${what}: ${stay}, ${keep}`, () => {
      const identity = user("mast-3");
      assert.equal(answer({ action: "stay", identity }, policy("loopback", { users: now })), stay);
      assert.equal(answer({ action: "keep", identity }, policy("loopback", { users: now })), keep);
      for (const action of ["publish", "will", "subscribe", "receive"] as const) {
        assert.equal(answer({ action, identity, topic: "a" }, policy("loopback", { users: now })), stay, action);
      }
    });
  }

  it("who has not come in by it stays", () => {
    for (const identity of [local, certified("node-7")]) {
      assert.equal(answer({ action: "stay", identity }, policy("never", { users: new Map() })), "yes");
    }
  });
});

describe("topics", () => {
  it("that begin with $ are for no client", () => {
    const rules = acl("topic readwrite $SYS/#", "topic readwrite #", "pattern readwrite %c/#");
    for (const action of ["publish", "will", "subscribe", "receive"] as const) {
      for (const of of [policy("always"), policy("always", { acl: rules })]) {
        assert.equal(answer({ action, identity: local, topic: "$SYS/x" }, of), "rights");
        assert.equal(answer({ action, identity: local, topic: "a/$SYS" }, of), "yes");
      }
    }
  });

  it("without rules are free, but for those that name somebody else as a source", () => {
    const of = policy("loopback", { users });
    for (const action of ["publish", "will"] as const) {
      const ask = (identity: typeof local, source?: string): string =>
        answer({ action, identity, topic: "telemetry/x", source }, of);
      assert.equal(ask(user("mast-3")), "yes");
      assert.equal(ask(user("mast-3"), "mast-3"), "yes");
      assert.equal(ask(user("mast-3"), "mast-9"), "rights");
      assert.equal(ask(certified("node-7"), "mast-9"), "rights");
      assert.equal(ask(local, "mast-9"), "yes");
    }
  });

  it("under rules are what the rules say, for every action", () => {
    const of = policy("always", { acl: acl("topic read news/#", "topic write in/#", "topic deny in/secret") });
    const table: [AccessRequest["action"], string, string][] = [
      ["publish", "in/a", "yes"],
      ["publish", "in/secret", "rights"],
      ["publish", "news/a", "rights"],
      ["publish", "else", "rights"],
      ["will", "in/a", "yes"],
      ["will", "news/a", "rights"],
      ["receive", "news/a", "yes"],
      ["receive", "in/a", "rights"],
      ["subscribe", "news/a", "yes"],
      ["subscribe", "#", "yes"],
      ["subscribe", "in/#", "rights"],
    ];
    for (const [action, topic, expected] of table) {
      const request = { action, identity: local, topic } as AccessRequest;
      assert.equal(answer(request, of), expected, `${action} ${topic}`);
    }
  });
});

describe("a reading's source", () => {
  const sources = new Map([["mast-3", /^(?:tank-.*)$/su]]);
  const speak = (identity: typeof local, source: string, of: AccessPolicy, topicSource?: string): string =>
    answer({ action: "speak", identity, source, topicSource }, of);

  it("is its own name, or one that mqtt.sources gives it", () => {
    const of = policy("loopback", { users, sources });
    assert.equal(speak(user("mast-3"), "mast-3", of), "yes");
    assert.equal(speak(user("mast-3", "any-id"), "any-id", of), "rights");
    assert.equal(speak(user("mast-3"), "mast-9", of), "rights");
    assert.equal(speak(user("mast-3"), "tank-1", of), "yes");
    assert.equal(speak(user("mast-9", "x", "other entry"), "tank-1", of), "rights");
    assert.equal(speak(certified("mast-3"), "tank-1", of), "yes");
  });

  it("may be the one that a topic names which rules let it publish to, and no other", () => {
    const of = policy("loopback", { users, acl: acl("user mast-3", "topic write telemetry/#") });
    assert.equal(speak(user("mast-3"), "mast-9", of, "mast-9"), "yes");
    assert.equal(speak(user("mast-3"), "mast-9", of, "mast-8"), "rights");
    assert.equal(speak(user("mast-3"), "mast-9", policy("loopback", { users }), "mast-9"), "rights");
  });

  it("is anything for a client without a name", () => {
    assert.equal(speak(local, "mast-3", policy("loopback", { users })), "yes");
  });

  it("where nothing names one is the client id if the client may speak for it, else the client's name", () => {
    const of = policy("loopback", { users, sources });
    assert.equal(ownSource(local, of), "node-7");
    assert.equal(ownSource(user("mast-3", "mosq-x1"), of), "mast-3");
    assert.equal(ownSource(user("mast-3", "tank-7"), of), "tank-7");
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
