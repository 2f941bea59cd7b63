import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Conversation, MAX_FOLLOWED } from "#src/sources/mqtt/conversation.js";
import { cut } from "../../support/fed-gate.ts";
import { acknowledgement, connectPacket, PUBACK, PUBREC, packet, publishPacket } from "../../support/raw-mqtt.ts";

/** A conversation behind its CONNECT. */
function begun(): Conversation {
  const conversation = new Conversation();
  receive(conversation, connectPacket("node-7"));
  return conversation;
}

function receive(conversation: Conversation, bytes: Buffer): string | undefined {
  return conversation.whole(bytes[0] ?? 0, bytes, 2, bytes.length)?.kind;
}

function send(conversation: Conversation, chunks: readonly Buffer[]): Buffer {
  return Buffer.concat(chunks.map((chunk) => conversation.sending(chunk)));
}

const messages = fc.uniqueArray(
  fc.record({
    id: fc.integer({ min: 1, max: 0xffff }),
    qos: fc.constantFrom(0, 1, 2) as fc.Arbitrary<0 | 1 | 2>,
    topic: fc.string({ minLength: 1, maxLength: 300 }),
    size: fc.oneof(fc.nat(200), fc.nat(20_000)),
  }),
  { selector: ({ id }) => id, maxLength: 8 },
);
const sizes = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 8 });

describe("what is sent to a client", () => {
  it("is followed wherever it is cut, and goes out as it is: each message must be acknowledged as its QoS asks", () => {
    fc.assert(
      fc.property(messages, sizes, (sent, by) => {
        const conversation = begun();
        const others = [packet(0xd0), acknowledgement(PUBACK, 1), packet(0x90, Buffer.of(0, 1, 0))];
        const stream = Buffer.concat(
          sent.flatMap(({ topic, size, ...options }, index) => [
            others[index % others.length] ?? Buffer.alloc(0),
            publishPacket(topic, Buffer.alloc(size, 0x31), options),
          ]),
        );
        assert.ok(send(conversation, cut(stream, by)).equals(stream));
        for (const { id, qos } of sent) {
          if (qos === 0) continue;
          const [right, wrong] = qos === 1 ? [PUBACK, PUBREC] : [PUBREC, PUBACK];
          assert.equal(receive(conversation, acknowledgement(wrong, id)), "acknowledgement");
          assert.equal(receive(conversation, acknowledgement(right, id)), undefined);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("is known up to a bound; the oldest is forgotten, and may be acknowledged anyhow", () => {
    const conversation = begun();
    for (let id = 1; id <= MAX_FOLLOWED + 1; id++) send(conversation, [publishPacket("a", "", { qos: 1, id })]);
    assert.equal(receive(conversation, acknowledgement(PUBREC, 2)), "acknowledgement");
    assert.equal(receive(conversation, acknowledgement(PUBREC, 1)), undefined);
  });
});

describe("CONNACK", () => {
  it("says whether the session was there, wherever it is cut, and the engine's own bytes stay as they are", () => {
    for (const present of [true, false]) {
      for (const size of [1, 2, 3, 4]) {
        const conversation = begun();
        conversation.sessionPresent = present;
        const engines = cut(Buffer.of(0x20, 2, present ? 0 : 1, 0), [size]);
        const before = engines.map((chunk) => chunk.toString("hex"));
        assert.deepEqual([...send(conversation, engines)], [0x20, 2, present ? 1 : 0, 0]);
        assert.deepEqual(
          engines.map((chunk) => chunk.toString("hex")),
          before,
        );
      }
    }
  });
});
