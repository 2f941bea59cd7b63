/** MQTT connections that send anything at all: right packets, packets with something changed, and bytes that are none. */
import { connect } from "node:net";
import fc from "fast-check";
import { cut } from "./fed-gate.ts";
import {
  acknowledgement,
  connectPacket,
  packet,
  publishPacket,
  pubrelPacket,
  remainingLength,
  subscribePacket,
  unsubscribePacket,
} from "./raw-mqtt.ts";

const names = fc.oneof(
  fc.constantFrom("telemetry/a", "observations/smoke", "alerts/x", "a/b", "a/+", "#", "+/b/#", "$SYS/#", "a#", "/", ""),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.integer({ min: 1, max: 200 }).map((levels) => "x/".repeat(levels)),
);
const ids = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 0xffff }));
const qos = fc.constantFrom(0, 1, 2) as fc.Arbitrary<0 | 1 | 2>;
const payloads = fc.oneof(
  fc.constantFrom('{"temperature":21.5}', "[]", "{", "", '{"ts":"never"}'),
  fc.json({ maxDepth: 3 }),
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
);

const greetings = fc
  .record({
    // Few, so that clients push one another out and find one another's sessions.
    clientId: fc.oneof(
      fc.constantFrom("", "__proto__", "constructor", ...Array.from({ length: 20 }, (_, n) => `node-${n}`)),
      fc.string({ unit: "binary", maxLength: 30 }),
    ),
    clean: fc.boolean(),
    will: fc.option(fc.record({ topic: names, payload: fc.constantFrom("{}", "gone"), qos }), { nil: undefined }),
    username: fc.option(fc.string({ maxLength: 5 }), { nil: undefined }),
    keepAlive: fc.constantFrom(0, 1, 60),
  })
  .map(({ clientId, clean, keepAlive, will, username }) =>
    connectPacket(clientId, {
      clean,
      keepAlive,
      ...(will === undefined ? {} : { will }),
      ...(username === undefined ? {} : { username }),
    }),
  );

const rightPackets = fc.oneof(
  fc
    .record({ topic: names, payload: payloads, qos, id: ids, dup: fc.boolean(), retain: fc.boolean() })
    .map(({ topic, payload, ...flags }) => publishPacket(topic, payload, flags)),
  fc.tuple(ids, fc.array(names, { maxLength: 5 }), qos).map(([id, filters, of]) => subscribePacket(id, filters, of)),
  fc.tuple(ids, fc.array(names, { maxLength: 5 })).map(([id, filters]) => unsubscribePacket(id, filters)),
  fc.tuple(fc.constantFrom(4, 5, 7), ids).map(([type, id]) => acknowledgement(type, id)),
  ids.map(pubrelPacket),
  fc.constant(packet(0xc0)),
  fc.constant(packet(0xe0)),
);

/** A packet with a byte changed, left out or put in. */
const changed = (packets: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> =>
  fc
    .record({ bytes: packets, at: fc.nat(), out: fc.integer({ min: 0, max: 3 }), put: fc.uint8Array({ maxLength: 3 }) })
    .map(({ bytes, at, out, put }) => {
      const from = at % bytes.length;
      return Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + out)]);
    });

const noise = fc.oneof(
  fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
  // A header that announces more than ever comes.
  fc.tuple(fc.nat(255), fc.nat(268_435_455)).map(([header, length]) => Buffer.of(header, ...remainingLength(length))),
  fc.constant(Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
);

export interface FuzzedConnection {
  readonly bytes: Buffer;
  /** It is written in pieces of these sizes. */
  readonly sizes: readonly number[];
  readonly ending: "end" | "destroy" | "reset";
}

/** One connection: it mostly begins as it should, so that the rest is looked at. */
export const fuzzedConnection: fc.Arbitrary<FuzzedConnection> = fc.record({
  bytes: fc
    .tuple(
      fc.oneof(
        { weight: 8, arbitrary: greetings },
        { weight: 1, arbitrary: changed(greetings) },
        { weight: 1, arbitrary: noise },
      ),
      fc.array(
        fc.oneof(
          { weight: 10, arbitrary: rightPackets },
          { weight: 2, arbitrary: changed(rightPackets) },
          { weight: 1, arbitrary: greetings },
          { weight: 1, arbitrary: noise },
        ),
        { maxLength: 12 },
      ),
    )
    .map(([first, rest]) => Buffer.concat([first, ...rest])),
  sizes: fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 }),
  ending: fc.constantFrom("end", "destroy", "reset"),
});

/** Makes a connection as described; resolves once it is closed. */
export async function makeConnection(port: number, { bytes, sizes, ending }: FuzzedConnection): Promise<void> {
  const socket = connect({ host: "127.0.0.1", port });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => {});
  socket.setNoDelay(true);
  socket.resume();
  for (const chunk of cut(bytes, sizes)) {
    if (socket.destroyed) break;
    socket.write(chunk);
    await new Promise((resolve) => setImmediate(resolve));
  }
  if (ending === "end") socket.end();
  else if (ending === "reset") socket.resetAndDestroy();
  else socket.destroy();
  await closed;
}
