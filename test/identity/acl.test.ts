import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Acl, parseAcl } from "#src/identity/acl.js";
import { covers, parseTopicFilter } from "#src/sources/mqtt/topics.js";

function aclOf(text: string): Acl {
  const parsed = parseAcl(text);
  if ("acl" in parsed) return parsed.acl;
  assert.fail(JSON.stringify(parsed.faults));
}

function faultsOf(text: string): string[] {
  const parsed = parseAcl(text);
  return "acl" in parsed ? [] : parsed.faults.map(({ line, message }) => `${line}: ${message}`);
}

const nobody = { name: undefined, clientId: "x" };
const as = (name: string, clientId = name) => ({ name, clientId });

describe("access rules", () => {
  const rules = aclOf(
    [
      "# what anybody may do",
      "topic read public/#",
      "",
      "user concentrator-7",
      "topic write telemetry/#",
      "  topic deny telemetry/secret",
      "topic commands/concentrator-7",
      "topic read a topic  with spaces",
      "user dashboard\r",
      "topic read #",
      "topic deny private/#",
      "user concentrator-7",
      "topic read extra",
      "pattern write devices/%u/up",
      "pattern read devices/%u/%c/down",
      "pattern deny devices/+/+/off",
    ].join("\n"),
  );
  const table: [string, ReturnType<typeof as> | typeof nobody, string, boolean, boolean][] = [
    ["before the first user are for clients without a name", nobody, "public/a", false, true],
    ["before the first user are for nobody else", as("stranger"), "public/a", false, false],
    ["allow write without read", as("concentrator-7"), "telemetry/a", true, false],
    ["deny what a broader line allows", as("concentrator-7"), "telemetry/secret", false, false],
    ["without an access are read and write", as("concentrator-7"), "commands/concentrator-7", true, true],
    ["take spaces in a topic", as("concentrator-7"), "a topic  with spaces", false, true],
    ["of a user may stand in two places", as("concentrator-7"), "extra", false, true],
    ["deny to a name that is not in them", as("stranger"), "telemetry/a", false, false],
    ["deny in a later line too", as("dashboard"), "private/a", false, false],
    ["are read with Windows' line ends", as("dashboard"), "telemetry/a", false, true],
    ["fill in the name", as("mast-3", "x"), "devices/mast-3/up", true, false],
    ["fill in nobody else's name", as("mast-3", "x"), "devices/mast-9/up", false, false],
    ["fill in the client id", as("mast-3", "c1"), "devices/mast-3/c1/down", false, true],
    ["with %u are not for clients without a name", nobody, "devices//up", false, false],
    ["that deny for all win over a user's own", as("dashboard"), "devices/a/b/off", false, false],
  ];
  for (const [what, who, topic, publish, receive] of table) {
    it(what, () => {
      assert.equal(rules.mayPublish(who, topic), publish, "publish");
      assert.equal(rules.mayReceive(who, topic), receive, "receive");
    });
  }

  it("allow nothing where there are none", () => {
    assert.equal(aclOf("").mayReceive(nobody, "a"), false);
  });

  it("never take an identity for a wildcard, a level or a placeholder", () => {
    const patterns = aclOf("pattern readwrite site/%c/#\npattern readwrite own/%u");
    for (const clientId of ["+", "#", "a/b", "+/x", ""]) {
      assert.equal(patterns.mayReceive({ name: "a", clientId }, "site/other/x"), false, clientId);
      assert.equal(patterns.maySubscribe({ name: "a", clientId }, "site/other/#"), false, clientId);
      assert.equal(patterns.mayPublish({ name: "a", clientId }, "own/a"), false, clientId);
    }
    assert.equal(patterns.mayReceive({ name: "a", clientId: "%u" }, "site/a/x"), false);
    assert.equal(patterns.mayReceive({ name: "a", clientId: "%u" }, "site/%u/x"), true);
    const denying = aclOf("topic read #\npattern deny site/%c/#");
    assert.equal(denying.mayReceive({ name: undefined, clientId: "a/b" }, "site/x"), false);
  });
});

describe("a subscription under rules", () => {
  const rules = aclOf("topic read a/+/c\ntopic read b/#\ntopic deny b/secret/#\ntopic write w");
  const table: [string, boolean][] = [
    ["a/b/c", true],
    ["a/b/d", false],
    ["a/#", true],
    ["a", false],
    ["b", true],
    ["#", true],
    ["+/+/c", true],
    ["b/secret/#", false],
    ["b/secret/x", false],
    ["b/+/x", true],
    ["w", false],
    ["c/#", false],
  ];
  for (const [filter, granted] of table) {
    it(`to ${filter} is ${granted ? "granted" : "refused"}`, () => {
      assert.equal(rules.maySubscribe(nobody, filter), granted);
    });
  }

  const level = fc.constantFrom("a", "b", "+");
  const filter = fc
    .tuple(fc.array(level, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([levels, rest]) => [...levels, ...(rest ? ["#"] : [])].join("/"));
  const topic = fc.array(fc.constantFrom("a", "b"), { minLength: 1, maxLength: 4 }).map((levels) => levels.join("/"));
  it("is granted whenever it covers a topic that may be read", () => {
    fc.assert(
      fc.property(
        fc.array(filter, { maxLength: 3 }),
        fc.array(filter, { maxLength: 2 }),
        filter,
        topic,
        (reads, denies, wanted, name) => {
          const acl = aclOf(
            [...reads.map((each) => `topic read ${each}`), ...denies.map((each) => `topic deny ${each}`)].join("\n"),
          );
          const asked = parseTopicFilter(wanted);
          assert.ok(asked);
          // What the rules say of a topic is what mosquitto would, by the broker's own matching.
          const covered = (filters: string[]) => filters.some((text) => covers(parseTopicFilter(text) ?? asked, name));
          assert.equal(acl.mayReceive(nobody, name), covered(reads) && !covered(denies));
          if (covers(asked, name) && acl.mayReceive(nobody, name)) assert.equal(acl.maySubscribe(nobody, wanted), true);
        },
      ),
    );
  });
});

describe("a file of rules that cannot be understood", () => {
  const table: [string, RegExp][] = [
    ["topic read a\nallow b", /^2: `allow` is none of user, topic, pattern/],
    ["topic", /^1: a topic is missing: write `topic \[read\|write\|readwrite\|deny\] FILTER`/],
    ["topic deny", /^1: a topic is missing/],
    ["topic raed a/b", /^1: `raed` is none of read, write, readwrite, deny/],
    ["topic read a/#/b", /^1: `a\/#\/b` is no topic filter/],
    ["topic read a+", /^1: `a\+` is no topic filter/],
    ["topic read a/%u", /^1: %c and %u are filled in by `pattern` lines/],
    [Buffer.from("topic read #\ntopic deny caf\xe9/#", "latin1").toString("utf8"), /^2: the topic is not in UTF-8/],
    ["user", /^1: `user` must be followed by a name/],
    ["user a/b", /^1: `user` must be followed by a name/],
    ["user +", /^1: `user` must be followed by a name/],
  ];
  for (const [text, expected] of table) {
    it(`says so of ${JSON.stringify(text)}`, () => {
      assert.match(faultsOf(text).join("\n"), expected);
    });
  }

  it("names every such line", () => {
    assert.equal(faultsOf("x\ntopic read a\ny\nz").length, 3);
  });
});
