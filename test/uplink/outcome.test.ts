import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { locate, MAX_RETRY_AFTER_MS, type Outcome, outcomeOf } from "#src/uplink/outcome.js";
import type { Answer } from "#src/uplink/transport.js";

const NOW = Date.UTC(2026, 6, 1, 12);

function answer(status: number, body: unknown = "", headers: Answer["headers"] = {}, truncated = false): Answer {
  return { kind: "answer", status, headers, body: typeof body === "string" ? body : JSON.stringify(body), truncated };
}

function of(status: number, body?: unknown, headers?: Answer["headers"]): Outcome {
  return outcomeOf(answer(status, body, headers), NOW);
}

describe("an answer that accepts", () => {
  for (const status of [200, 201, 202, 204, 207]) {
    for (const body of ["", "  \r\n", "{}", '{"rejected":[]}', '{"rejected":null}', '{"accepted":500}']) {
      it(`settles the whole batch: ${status} ${JSON.stringify(body)}`, () => {
        assert.deepEqual(of(status, body), { kind: "accepted" });
      });
    }
  }
});

describe("an answer that rejects readings by name", () => {
  const body = {
    rejected: [
      { id: "AAAA", code: "out-of-range", detail: "lat 91", retriable: false },
      { id: "bbbb", code: "busy", detail: "", retriable: true },
      { id: "cccc" },
    ],
  };
  for (const status of [200, 207]) {
    it(`names each with its reason, and which may be tried again: ${status}`, () => {
      assert.deepEqual(of(status, body), {
        kind: "partial",
        retryAfterMs: 0,
        rejected: [
          { id: "aaaa", reason: { code: "out-of-range", detail: "lat 91" }, retriable: false },
          { id: "bbbb", reason: { code: "busy", detail: "" }, retriable: true },
          { id: "cccc", reason: { code: "rejected", detail: "" }, retriable: false },
        ],
      });
    });
  }

  it("is located among the ids that were sent, in their order, copies of an id included", () => {
    const outcome = of(200, body);
    assert.equal(outcome.kind, "partial");
    const located = locate(outcome.rejected, ["cccc", "dddd", "bbbb", "aaaa", "bbbb"]);
    assert.ok(Array.isArray(located));
    assert.deepEqual(
      located.map(({ index, id }) => [index, id]),
      [
        [0, "cccc"],
        [2, "bbbb"],
        [3, "aaaa"],
        [4, "bbbb"],
      ],
    );
  });

  it("is a failure where it rejects an id that was not sent", () => {
    const outcome = of(200, body);
    assert.equal(outcome.kind, "partial");
    const located = locate(outcome.rejected, ["aaaa", "bbbb"]);
    assert.ok(!Array.isArray(located));
    assert.deepEqual([located.kind, located.fault, located.code], ["failed", "unexpected", "unknown-ids"]);
    assert.match(located.detail, /cccc/);
  });
});

describe("a 2xx that cannot be understood", () => {
  for (const body of [
    "<html>Log in</html>",
    "OK",
    "[]",
    "null",
    "true",
    '{"rejected":{}}',
    '{"rejected":[1]}',
    '{"rejected":[{}]}',
    '{"rejected":',
  ]) {
    it(`keeps everything: ${body}`, () => {
      const outcome = of(200, body);
      assert.ok(outcome.kind === "failed");
      assert.deepEqual([outcome.fault, outcome.code], ["unexpected", "unintelligible-answer"]);
    });
  }

  it("keeps everything where the answer is longer than is read", () => {
    assert.equal(outcomeOf(answer(200, "{}", {}, true), NOW).kind, "failed");
  });
});

describe("a refusal of the batch", () => {
  it("carries the problem details: the code where there is one", () => {
    const problem = {
      type: "https://fusion.example/problems/bad",
      code: "BAD_UNIT",
      title: "Bad",
      detail: "no such unit",
    };
    const reason = { code: "BAD_UNIT", detail: "no such unit", problem };
    for (const status of [400, 422]) assert.deepEqual(of(status, problem), { kind: "refused", reason });
    assert.deepEqual(of(413, problem), { kind: "too-large", reason });
  });

  for (const [type, code] of [
    ["https://fusion.example/problems/out-of-range", "out-of-range"],
    ["https://fusion.example/problems/out-of-range/", "out-of-range"],
    ["https://fusion.example/problems#out-of-range", "out-of-range"],
    ["urn:problem:out-of-range", "out-of-range"],
    ["about:blank", "http-422"],
    ["", "http-422"],
  ]) {
    it(`is called ${code} where the type is ${JSON.stringify(type)}`, () => {
      const outcome = of(422, { type, title: "Out of range" });
      assert.ok(outcome.kind === "refused");
      assert.deepEqual([outcome.reason.code, outcome.reason.detail], [code, "Out of range"]);
    });
  }

  it("is called after its status where the answer says nothing more, and quotes what it says", () => {
    assert.deepEqual(of(400), { kind: "refused", reason: { code: "http-400", detail: "" } });
    assert.deepEqual(of(413, "<h1>too\n large</h1>"), {
      kind: "too-large",
      reason: { code: "http-413", detail: "<h1>too large</h1>" },
    });
  });

  it("is bounded, whatever fusion sends", () => {
    const outcome = of(422, { code: "c".repeat(10_000), detail: "d".repeat(10_000), more: "m".repeat(10_000) });
    assert.ok(outcome.kind === "refused");
    assert.deepEqual([outcome.reason.code.length, outcome.reason.detail.length], [64, 1024]);
    assert.equal(outcome.reason.problem, undefined);
  });
});

describe("an answer that fails", () => {
  const faults: [number[], string][] = [
    [[401, 403], "credentials"],
    [[404, 405, 410, 415], "misconfigured"],
    [[408, 425, 429, 500, 501, 502, 503, 504, 507, 599], "failing"],
    [[300, 301, 302, 303, 304, 307, 308, 402, 406, 409, 411, 418, 451, 600], "unexpected"],
  ];
  for (const [statuses, fault] of faults) {
    for (const status of statuses) {
      it(`keeps everything: ${status} is ${fault}`, () => {
        const outcome = of(status, { detail: "so it is" });
        assert.ok(outcome.kind === "failed");
        assert.deepEqual([outcome.fault, outcome.code], [fault, `http-${status}`]);
        assert.match(outcome.detail, new RegExp(`answered ${status}`));
      });
    }
  }

  it("says where a redirect leads", () => {
    const outcome = of(302, "", { location: "https://portal.example/login" });
    assert.ok(outcome.kind === "failed");
    assert.match(outcome.detail, /portal\.example.*not followed/);
  });

  it("is what the transport says where there is no answer", () => {
    const none = { kind: "no-answer", fault: "unreachable", code: "ECONNREFUSED", detail: "refused" } as const;
    assert.deepEqual(outcomeOf(none, NOW), { ...none, kind: "failed", retryAfterMs: 0 });
  });
});

describe("Retry-After", () => {
  const wait = (value: string | undefined, date?: string): number => {
    const outcome = of(503, "", { "retry-after": value, date });
    assert.ok(outcome.kind === "failed");
    return outcome.retryAfterMs;
  };

  it("is read in seconds", () => {
    assert.equal(wait("120"), 120_000);
    assert.equal(wait("0"), 0);
  });

  it("is read as a date, against the answer's own date rather than the gateway's clock", () => {
    assert.equal(wait("Thu, 01 Jan 2015 00:01:30 GMT", "Thu, 01 Jan 2015 00:00:00 GMT"), 90_000);
    assert.equal(wait(new Date(NOW + 90_000).toUTCString()), 90_000);
  });

  it("is at most an hour, and never negative", () => {
    assert.equal(wait("86400"), MAX_RETRY_AFTER_MS);
    assert.equal(wait("9".repeat(400)), MAX_RETRY_AFTER_MS);
    assert.equal(wait(new Date(NOW + 86_400_000).toUTCString()), MAX_RETRY_AFTER_MS);
    assert.equal(wait(new Date(NOW - 86_400_000).toUTCString()), 0);
  });

  it("is ignored where it makes no sense", () => {
    for (const value of [undefined, "", "soon", "-5", "1.5", "Thu"]) assert.equal(wait(value), 0);
  });
});
