import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Capture, droppedLine, headerLine, parseCapture, pieceLine } from "#src/codec/capture.js";

const HEADER = headerLine({ name: "mast", path: "/dev/ttyUSB0", baudRate: 4800 });
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function whole(text: string): Capture {
  const capture = parseCapture(text);
  assert.ok(!("message" in capture), JSON.stringify(capture));
  return capture;
}

describe("a capture", () => {
  it("is read as it was written, whatever came over the line", () => {
    const pieces = fc.array(fc.tuple(fc.nat(100_000), fc.uint8Array({ maxLength: 300 })), { maxLength: 20 });
    fc.assert(
      fc.property(pieces, (some) => {
        const timed = some.toSorted(([one], [other]) => one - other);
        const text = HEADER + timed.map(([ms, bytes]) => pieceLine(ms / 10, hexOf(bytes))).join("");
        const read = whole(text).pieces.map(({ ms, bytes }) => [ms, hexOf(bytes)]);
        assert.deepEqual(
          read,
          timed.map(([ms, bytes]) => [ms / 10, hexOf(bytes)]),
        );
      }),
    );
  });

  it("tells how the line was set up, and how much is missing", () => {
    const text = `${HEADER}${pieceLine(1, "41")}${droppedLine(2, 512)}${pieceLine(3, "42")}${droppedLine(4, 8)}`;
    const { header, pieces, dropped } = whole(text);
    assert.deepEqual([header.name, header.baudRate, pieces.length, dropped], ["mast", 4800, 2, 520]);
  });

  it("that was cut off in a line has all before it", () => {
    const text = `${HEADER}${pieceLine(1, "4142")}${pieceLine(2, "4344")}`;
    for (let length = HEADER.length; length < text.length; length++) {
      const { pieces } = whole(text.slice(0, length));
      assert.equal(pieces.length, text.slice(HEADER.length, length).split("\n").length - 1);
    }
  });

  it("may have members and blank lines of which this version knows nothing", () => {
    const text = `{"format":"summit-edge.serial-capture/1","weather":"fair"}\n\n{"ms":0,"hex":"41","dir":"in"}\n`;
    assert.equal(whole(text).pieces.length, 1);
  });

  for (const [text, line] of [
    ["", 1],
    ["\n", 1],
    ['{"format":"summit-edge.serial-capture/2"}\n', 1],
    ["$GPRMC,1,2,3\n", 1],
    [`${HEADER}$GPRMC\n`, 2],
    [`${HEADER}${pieceLine(5, "41")}${pieceLine(4, "41")}`, 3],
    [`${HEADER}{"ms":1,"hex":"4"}\n`, 2],
    [`${HEADER}{"ms":1,"hex":"zz"}\n`, 2],
    [`${HEADER}{"hex":"41"}\n`, 2],
    [`${HEADER}{"ms":1,"dropped":-1}\n`, 2],
    [`${HEADER}[1]\n`, 2],
  ] as const)
    it(`is not ${JSON.stringify(text.slice(-40))}, and the fault's line is named`, () => {
      const fault = parseCapture(text);
      assert.ok("message" in fault);
      assert.equal(fault.line, line);
    });
});
