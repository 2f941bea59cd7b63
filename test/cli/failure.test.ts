import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { exitStatusOf } from "#src/cli/failure.js";
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
