import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { likelyBaudRates, misread, USUAL_BAUD_RATES } from "#src/codec/baud-guess.js";
import { LEAST_RUBBISH_BYTES, LineQuality } from "#src/codec/line-quality.js";

/** Lines unlike those that the judgement knows. */
const LINES = Array.from({ length: 60 }, (_, n) =>
  Buffer.from(`{"station":"ridge ${n}","wind":{"dir":${(n * 37) % 360},"ms":${(n * 1.7) % 31}},"ok":true}\n`),
);
const SENTENCES = Array.from({ length: 60 }, (_, n) =>
  Buffer.from(`$GNGLL,45${n + 10}.${n * 131},S,0123${n % 10}.5${n},W,0${n % 10}${n + 10}41.00,A,D*7${n % 10}\r\n`),
);

function pairs(): { sent: number; read: number }[] {
  const rates = USUAL_BAUD_RATES.filter((rate) => rate >= 2400);
  return rates.flatMap((sent) => rates.flatMap((read) => (sent === read ? [] : [{ sent, read }])));
}

const at = (baudRate: number) => ({ baudRate, dataBits: 8, parity: "none" }) as const;

describe("a UART", () => {
  it("reads at the sender's speed what was sent, and at half of it something else", () => {
    const sent = [Buffer.from("Hi \x00\xff\n", "latin1")];
    assert.deepEqual(misread(sent, 9600, 9600), [...Buffer.concat(sent)]);
    // At double the speed each level is seen twice: of ']' (lowest bits 1, 0, 1, 1) the start bit's second half comes first.
    assert.equal(misread([Buffer.from("]")], 4800, 9600)[0], 0b1110_0110);
  });
});

describe("the quality of a line", () => {
  for (const [kind, lines] of Object.entries({ json: LINES, nmea: SENTENCES })) {
    it(`takes ${kind} at another speed for rubbish, and suggests the device's among three`, () => {
      const wrong = pairs().filter(({ sent, read }) => {
        const heard = Uint8Array.from(misread(lines, sent, read));
        // What is so much too fast that hardly a byte comes whole is silence rather than rubbish.
        if (heard.length < LEAST_RUBBISH_BYTES) return false;
        const quality = new LineQuality(at(read), true);
        quality.heard(heard);
        const said = quality.rubbish() ?? "";
        return !new RegExp(`most likely .*\\b${sent}\\b`).test(said);
      });
      assert.ok(wrong.length <= pairs().length / 10, JSON.stringify(wrong));
    });
  }

  it("puts the device's speed first where it is half or double", () => {
    for (const { sent, read } of [
      { sent: 4800, read: 9600 },
      { sent: 9600, read: 4800 },
      { sent: 115_200, read: 57_600 },
    ])
      assert.equal(likelyBaudRates(Uint8Array.from(misread(LINES, sent, read)).subarray(0, 256), read, true)[0], sent);
  });

  it("does not take for rubbish: text that nothing was made of, little of anything, and what a good frame was among", () => {
    const text = new LineQuality(at(9600), true);
    for (const line of LINES) text.heard(line);
    assert.equal(text.rubbish(), undefined);
    const rubbish = Uint8Array.from(misread(LINES, 4800, 9600));
    const little = new LineQuality(at(9600), true);
    little.heard(rubbish.subarray(0, LEAST_RUBBISH_BYTES - 1));
    assert.equal(little.rubbish(), undefined);
    little.heard(rubbish.subarray(0, 1));
    assert.match(little.rubbish() ?? "", /^\d+% of the last 128 bytes at 9600 bit\/s 8N are no text: check baudRate/);
    little.good();
    assert.equal(little.rubbish(), undefined);
  });

  for (const parity of ["even", "odd"] as const) {
    it(`knows seven bits with ${parity} parity that are read as eight`, () => {
      const quality = new LineQuality(at(4800), true);
      for (const line of SENTENCES) quality.heard(line.map((byte) => withParity(byte, parity)));
      assert.match(quality.rubbish() ?? "", new RegExp(`set dataBits: 7 and parity: ${parity}$`));
    });
  }

  it("takes much without a frame for rubbish where frames are binary, and suggests speeds", () => {
    const sent = [Uint8Array.from({ length: 4096 }, (_, n) => (n * n * 7 + n * 13) >> 3)];
    const quality = new LineQuality(at(9600), false);
    quality.heard(Uint8Array.from(misread(sent, 4800, 9600)));
    assert.match(quality.rubbish() ?? "", /^no frame among the last 512 bytes .*most likely .*\b4800\b/);
  });
});

function withParity(byte: number, parity: "even" | "odd"): number {
  let ones = 0;
  for (let rest = byte; rest > 0; rest >>= 1) ones += rest & 1;
  return (ones % 2 === 1) === (parity === "even") ? byte | 0x80 : byte;
}
