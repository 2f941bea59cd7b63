/**
 * MQTT 3.1.1, clause by clause: bytes in, and what becomes of the connection. The same bytes go to aedes as it comes, which shows
 * where it needs the layer in front: `stock` says what it does where that differs.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { startBroker } from "../../support/broker-under-test.ts";
import { cut, feedGate } from "../../support/fed-gate.ts";
import { fuzzedConnection } from "../../support/mqtt-fuzz.ts";
import { CONNACK, connectPacket, packet, RawMqtt } from "../../support/raw-mqtt.ts";
import { startStockAedes } from "../../support/stock-aedes.ts";

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ""), "hex");
const text = (value: string | Buffer): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
};
/** A CONNECT by its fields: protocol name, level, flags, and what follows the keep-alive. */
const connect = (flags: number, ...payload: Buffer[]): Buffer => greeting("MQTT", 4, flags, ...payload);
const greeting = (name: string, level: number, flags: number, ...payload: Buffer[]): Buffer =>
  packet(0x10, text(name), Buffer.of(level, flags, 0, 60), ...payload);
const publish = (header: number, topic: string | Buffer, ...rest: Buffer[]): Buffer =>
  packet(header, text(topic), ...rest);
const id = (value: number): Buffer => Buffer.of(value >> 8, value & 0xff);
const subscribe = (...fields: Buffer[]): Buffer => packet(0x82, ...fields);
const unsubscribe = (...fields: Buffer[]): Buffer => packet(0xa2, ...fields);
const asked = (filter: string | Buffer, qos: number): Buffer => Buffer.concat([text(filter), Buffer.of(qos)]);

type Answer = "open" | "closed" | `CONNACK ${number}, closed`;
interface Clause {
  /** Of the standard. */
  readonly clause: string;
  readonly what: string;
  readonly bytes: Buffer;
  readonly answer: Answer;
  /** What stock aedes does, where it is not the same. */
  readonly stock?: Answer;
}

const closed = (clause: string, what: string, bytes: Buffer, stock?: Answer): Clause => ({
  clause,
  what,
  bytes,
  answer: "closed",
  ...(stock === undefined ? {} : { stock }),
});
const open = (clause: string, what: string, bytes: Buffer): Clause => ({ clause, what, bytes, answer: "open" });

/** What a client may begin with. */
const GREETINGS: readonly Clause[] = [
  open("3.1", "a plain CONNECT", connect(2, text("a"))),
  open(
    "3.1.2.3",
    "a CONNECT with everything",
    connect(0xf6, text("a"), text("w"), text("gone"), text("me"), text(Buffer.of(0, 1))),
  ),
  open("3.1.3.1", "no client id for a clean session", connect(2, text(""))),
  open("3.1 of MQTT 3.1", "a CONNECT of MQTT 3.1", greeting("MQIsdp", 3, 2, text("a"))),
  closed("MQTT-3.1.0-1", "another packet first", hex("c000")),
  closed("MQTT-2.2.2-2", "a CONNECT with flags in its header", hex("11 0d 0004 4d515454 04 02 003c 0001 61")),
  closed("MQTT-3.1.2-1", "another protocol name", greeting("mqtt", 4, 2, text("a"))),
  ...[0, 3, 6, 0x84].map(
    (level): Clause => ({
      clause: "MQTT-3.1.2-2",
      what: `protocol level ${level}`,
      bytes: greeting("MQTT", level, 2, text("a")),
      answer: "CONNACK 1, closed",
      stock: level === 3 || level === 0x84 ? "open" : "closed",
    }),
  ),
  {
    clause: "MQTT-3.1.2-2",
    what: "protocol level 5 (MQTT 5)",
    bytes: greeting("MQTT", 5, 2, Buffer.of(0), text("a")),
    answer: "CONNACK 1, closed",
  },
  {
    clause: "MQTT-3.1.2-2",
    what: "an unknown protocol level and nothing that can be read behind it",
    bytes: packet(0x10, text("MQTT"), Buffer.of(9)),
    answer: "CONNACK 1, closed",
    stock: "closed",
  },
  closed("MQTT-3.1.2-3", "the reserved flag", connect(3, text("a"))),
  closed("MQTT-3.1.2-13", "a will QoS without a will", connect(0x0a, text("a"))),
  closed("MQTT-3.1.2-14", "will QoS 3", connect(0x1e, text("a"), text("w"), text("")), "open"),
  closed("MQTT-3.1.2-15", "will retain without a will", connect(0x22, text("a"))),
  closed("MQTT-3.1.2-22", "a password without a user name", connect(0x42, text("a"), text("secret")), "open"),
  {
    clause: "MQTT-3.1.3-8, MQTT-3.1.3-9",
    what: "no client id for a session that is to be kept",
    bytes: connect(0, text("")),
    answer: "CONNACK 2, closed",
    stock: "open",
  },
  {
    clause: "3.1 of MQTT 3.1",
    what: "no client id in MQTT 3.1",
    bytes: greeting("MQIsdp", 3, 2, text("")),
    answer: "CONNACK 2, closed",
    stock: "open",
  },
  closed("MQTT-3.1.3-3", "no client id field", packet(0x10, text("MQTT"), Buffer.of(4, 2, 0, 60))),
  closed("MQTT-3.1.3-4, MQTT-1.5.3-1", "a client id that is not UTF-8", connect(2, text(hex("61ff"))), "open"),
  closed("MQTT-1.5.3-1", "a client id with a surrogate", connect(2, text(hex("eda080"))), "open"),
  closed("MQTT-1.5.3-2", "a client id with U+0000", connect(2, text("a\0b")), "open"),
  closed("MQTT-4.7.3-1", "an empty will topic", connect(6, text("a"), text(""), text("gone")), "open"),
  closed("MQTT-3.3.2-2", "a will topic with a wildcard", connect(6, text("a"), text("w/#"), text("gone")), "open"),
  closed("MQTT-1.5.3-2", "a will topic with U+0000", connect(6, text("a"), text("w\0"), text("gone")), "open"),
  closed("MQTT-3.1.3-11", "a user name that is not UTF-8", connect(0x82, text("a"), text(hex("c0af"))), "open"),
  closed("3.1.3", "a will flag and no will", connect(6, text("a"))),
  closed("3.1.3", "a user name flag and no user name", connect(0x82, text("a"))),
  closed("3.1.3", "bytes behind the last field", connect(2, text("a"), text("b")), "open"),
];

/** What a client may send once it was let in. */
const PACKETS: readonly Clause[] = [
  open("3.12", "a PINGREQ", hex("c000")),
  open("MQTT-1.5.3-3", "a topic that begins with U+FEFF", publish(0x30, "\ufeffa")),
  open("4.7.3", "a topic of a single slash, one with a space, one that is not ASCII", publish(0x30, "/ ü/日本")),
  open("MQTT-4.7.1-2, -3", "filters with wildcards", subscribe(id(1), asked("a/+/#", 2), asked("+", 0), asked("#", 1))),
  open("3.10", "an UNSUBSCRIBE of what nobody subscribed to", unsubscribe(id(1), text("a/+"))),
  open("4.4", "acknowledgements of what another connection was sent", hex("4002000a 5002000b 7002000c 6202000d")),
  closed("MQTT-3.1.0-2", "a second CONNECT", connectPacket("a")),
  ...[0x00, 0xf0].map((header) => closed("2.2.1", `reserved packet type ${header >> 4}`, Buffer.of(header, 0))),
  ...[
    ["CONNACK", "20020000"],
    ["SUBACK", "9003000100"],
    ["UNSUBACK", "b0020001"],
    ["PINGRESP", "d000"],
  ].map(([name, bytes = ""]) => closed("MQTT-4.8.0-1", `a ${name}, which only a server sends`, hex(bytes))),
  ...[
    ["PUBACK", "41020001"],
    ["PUBREC", "52020001"],
    ["PUBREL", "60020001"],
    ["PUBCOMP", "78020001"],
    ["SUBSCRIBE", "80060001000161 00"],
    ["UNSUBSCRIBE", "a0050001000161"],
    ["PINGREQ", "c100"],
    ["DISCONNECT", "e100"],
  ].map(([name, bytes = ""]) => closed("MQTT-2.2.2-2", `a ${name} with wrong flags`, hex(bytes))),
  closed("2.2.3", "a remaining length of five bytes", hex("c0 8080808001")),
  closed("MQTT-3.3.1-4", "a PUBLISH with QoS 3", publish(0x36, "a", id(1))),
  closed("MQTT-3.3.1-2", "a PUBLISH with QoS 0 and DUP", publish(0x38, "a"), "open"),
  closed("MQTT-4.7.3-1", "a PUBLISH with an empty topic", publish(0x30, "")),
  closed("MQTT-3.3.2-2", "a PUBLISH with + in its topic", publish(0x30, "a/+")),
  closed("MQTT-3.3.2-2", "a PUBLISH with # in its topic", publish(0x32, "a#", id(1))),
  closed("MQTT-1.5.3-2, MQTT-4.7.3-2", "a PUBLISH with U+0000 in its topic", publish(0x30, "a\0b"), "open"),
  closed("MQTT-3.3.2-1, MQTT-1.5.3-1", "a PUBLISH whose topic is not UTF-8", publish(0x30, hex("61c3")), "open"),
  closed("MQTT-2.3.1-1", "a PUBLISH of QoS 1 with packet identifier 0", publish(0x32, "a", id(0)), "open"),
  closed("MQTT-2.3.1-1", "a PUBLISH of QoS 2 with packet identifier 0", publish(0x34, "a", id(0)), "open"),
  closed("3.3.2", "a PUBLISH without a packet identifier", publish(0x32, "a"), "open"),
  closed("3.3.2", "a PUBLISH whose topic is longer than itself", hex("30 03 0005 61")),
  closed("3.3.2", "a PUBLISH of nothing", hex("3000")),
  ...[
    ["PUBACK", "40"],
    ["PUBREC", "50"],
    ["PUBREL", "62"],
    ["PUBCOMP", "70"],
  ].flatMap(([name, header]) => [
    closed("MQTT-2.3.1-1", `a ${name} with packet identifier 0`, hex(`${header}020000`), "open"),
    closed("3.4.1", `a ${name} of 3 bytes`, hex(`${header}0101`), "open"),
    closed("3.4.1", `a ${name} of 5 bytes`, hex(`${header}03000101`), "open"),
  ]),
  closed("MQTT-2.3.1-1", "a SUBSCRIBE with packet identifier 0", subscribe(id(0), asked("a", 0)), "open"),
  closed("MQTT-3.8.3-3", "a SUBSCRIBE without a filter", subscribe(id(1))),
  closed("MQTT-3.8.3-4", "a SUBSCRIBE with QoS 3", subscribe(id(1), asked("a", 3))),
  closed("MQTT-3-8.3-4", "a SUBSCRIBE with reserved bits", subscribe(id(1), asked("a", 4))),
  closed("MQTT-3.8.3-1", "a SUBSCRIBE to what is not UTF-8", subscribe(id(1), asked(hex("ff"), 0)), "open"),
  closed("MQTT-4.7.3-1", "a SUBSCRIBE to an empty filter", subscribe(id(1), asked("", 0))),
  closed("MQTT-4.7.3-2", "a SUBSCRIBE to a filter with U+0000", subscribe(id(1), asked("a\0", 0)), "open"),
  closed("MQTT-4.7.1-3", "a SUBSCRIBE to a/+b", subscribe(id(1), asked("a/+b", 0)), "open"),
  closed(
    "MQTT-4.7.1-3",
    "a SUBSCRIBE to a+, behind a filter that is right",
    subscribe(id(1), asked("b", 0), asked("a+", 0)),
    "open",
  ),
  closed("MQTT-4.7.1-2", "a SUBSCRIBE to a#", subscribe(id(1), asked("a#", 0)), "open"),
  closed("MQTT-4.7.1-2", "a SUBSCRIBE to #/a", subscribe(id(1), asked("#/a", 0))),
  closed("3.8.3", "a SUBSCRIBE without the QoS of its last filter", subscribe(id(1), text("a"))),
  closed("MQTT-2.3.1-1", "an UNSUBSCRIBE with packet identifier 0", unsubscribe(id(0), text("a")), "open"),
  closed("MQTT-3.10.3-2", "an UNSUBSCRIBE without a filter", unsubscribe(id(1)), "open"),
  closed("MQTT-4.7.1-3", "an UNSUBSCRIBE of a/+b", unsubscribe(id(1), text("a/+b")), "open"),
  closed("3.10.3", "an UNSUBSCRIBE whose filter is longer than itself", unsubscribe(id(1), hex("000561"))),
  closed("3.12.1", "a PINGREQ with a body", hex("c00161"), "open"),
  closed("3.14.1", "a DISCONNECT with a body", hex("e00161")),
];
/** Sends bytes and says what became of the connection. A PINGREQ behind them tells one that stays open. */
async function answerTo(port: number, bytes: Buffer): Promise<Answer> {
  const client = new RawMqtt(port);
  client.send(bytes, hex("c000"));
  const alive = client.next(13).then(
    () => true,
    () => false,
  );
  const stays = await alive;
  client.socket.destroy();
  if (stays) return "open";
  const refusal = client.packets.find(({ type, body }) => type === CONNACK && body[1] !== 0);
  return refusal === undefined ? "closed" : `CONNACK ${refusal.body[1] ?? -1}, closed`;
}

const GREETING = connectPacket("clause");
const ALL = [...GREETINGS, ...PACKETS.map((clause) => ({ ...clause, bytes: Buffer.concat([GREETING, clause.bytes]) }))];

describe("the clauses of MQTT 3.1.1", () => {
  for (const { clause, what, bytes, answer, stock = answer } of ALL) {
    const unlike = stock === answer ? "" : ` (stock aedes: ${stock})`;
    it(`${what}: ${answer}${unlike} [${clause}]`, { timeout: 20_000 }, async (t) => {
      const { ports, log } = await startBroker(t);
      assert.equal(await answerTo(ports[0] ?? 0, bytes), answer);
      const refusals = log.lines.filter(
        ({ msg, level }) => (msg === "connection refused" || msg === "client cut off") && level === "warn",
      );
      assert.equal(refusals.length, answer === "open" ? 0 : 1);
      assert.equal(await answerTo(await startStockAedes(t), bytes), stock, "stock aedes");
    });
  }
});

describe("a stream of packets", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 });
  const ofClauses = fc
    .tuple(
      fc.constantFrom(...GREETINGS.map(({ bytes }) => bytes)),
      fc.array(fc.constantFrom(...PACKETS.map(({ bytes }) => bytes)), { maxLength: 5 }),
    )
    .map(([first, rest]) => Buffer.concat([first, ...rest]));
  const ofAnything = fuzzedConnection.map(({ bytes }) => bytes);

  for (const [what, streams] of [
    ["of the table above", ofClauses],
    ["of anything at all", ofAnything],
  ] as const) {
    it(`${what} has the same fault, and the same packets pass before it, wherever it is cut`, async () => {
      await fc.assert(
        fc.asyncProperty(streams, sizes, async (stream, by) => {
          const whole = await feedGate([stream]);
          const pieces = await feedGate(cut(stream, by));
          assert.deepEqual(pieces.refusals, whole.refusals);
          // What is too large ends the connection there and then. Of a packet with another fault all but its end may pass: the
          // engine acts on whole packets only.
          if (/larger than/.test(whole.refusals[0] ?? "")) return;
          assert.deepEqual(wholePackets(pieces.bytes), wholePackets(whole.bytes));
        }),
        { numRuns: 1000 },
      );
    });
  }
});

/** The packets that are there to their end. */
function wholePackets(stream: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; ; ) {
    const lengthBytes = stream.subarray(at + 1, at + 5).findIndex((byte) => byte < 0x80) + 1;
    let length = 0;
    for (let n = lengthBytes; n > 0; n--) length = length * 128 + ((stream[at + n] ?? 0) & 0x7f);
    const end = at + 1 + lengthBytes + length;
    if (lengthBytes === 0 || end > stream.length) return found;
    found.push(stream.subarray(at, end).toString("hex"));
    at = end;
  }
}
