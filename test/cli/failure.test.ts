import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { exitStatusOf, failureText, pasteable } from "#src/cli/failure.js";
import { GatewayError } from "#src/kernel/errors.js";

const statusOf = (code: string): number => exitStatusOf(new GatewayError({ code, op: "x", message: "x", hint: "x" }));

describe("exit status", () => {
  for (const code of ["CONFIG_INVALID", "CONFIG_MISSING", "PORT_UNKNOWN", "UPLINK_URL_REFUSED", "URL_INVALID", "USAGE"])
    test(`2 for ${code}, which the same try meets again`, () => assert.equal(statusOf(code), 2));

  test("74 for an I/O error on the outbox, at its start as later", () => assert.equal(statusOf("OUTBOX_IO_ERROR"), 74));

  test("1 for what failed while it ran", () => {
    assert.equal(statusOf("DAEMON_UNREACHABLE"), 1);
    assert.equal(exitStatusOf(new Error("x")), 1);
  });
});

describe("hints", () => {
  const hint = "See which there are: summit-edge keys list";
  const thrown = new GatewayError({ code: "X", op: "x", message: "no", hint });

  test("name the configuration that the command was given, so that what they say works as it is pasted", () => {
    const expected = "error: no\nhint: See which there are: summit-edge keys list --config a.yaml\n";
    assert.equal(failureText(thrown, false, ["keys", "revoke", "x", "--config", "a.yaml"]), expected);
    assert.equal(failureText(thrown, false, ["keys", "revoke", "x", "--config=a.yaml"]), expected);
    assert.equal(
      pasteable("revoke it (summit-edge certs revoke --device a), then summit-edge doctor", ["--config", "it's"]),
      "revoke it (summit-edge certs revoke --config 'it'\\''s' --device a), then summit-edge doctor --config 'it'\\''s'",
    );
  });

  test("name it behind the subcommand", () => {
    const ports =
      "summit-edge doctor serial lists the ports; summit-edge serial tail NAME looks at one; summit-edge doctor";
    assert.equal(
      pasteable(ports, ["--config", "a.yaml"]),
      "summit-edge doctor serial --config a.yaml lists the ports; summit-edge serial tail --config a.yaml NAME looks at one; " +
        "summit-edge doctor --config a.yaml",
    );
  });

  test("stay as they are without one, where it is named already, and for what takes none", () => {
    assert.equal(failureText(thrown, false, ["keys", "list"]), `error: no\nhint: ${hint}\n`);
    const named =
      "`summit-edge config check --config /b.yaml` looks again, summit-edge config schema; systemctl reload summit-edge";
    assert.equal(pasteable(named, ["--config", "a.yaml"]), named);
  });
});
