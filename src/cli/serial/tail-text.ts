/** The lines of a tail as a person reads them. Pure. */
import type { Shown, TimedTailLine } from "../../operations/tail-line.ts";
import { count, printable } from "../format.ts";

const KIND_WIDTH = 9;
/** Where the second line of a reading begins: below its frame. */
const INDENT = " ".repeat("00:00:00.000".length + KIND_WIDTH + 4);
/** Of a frame that is no text; more is shown with `--hex`. */
const HEX_BYTES = 48;

/** What is printed for a line; nothing for one that only says that the gateway is there. `hex`: frames in hexadecimal, text or not. */
export function tailText(line: TimedTailLine, hex: boolean): string {
  const said = (kind: string, text: string): string =>
    `${line.at.slice(11, 23)}  ${kind.padEnd(KIND_WIDTH)}  ${printable(text)}\n`;
  switch (line.kind) {
    case "alive":
      return "";
    case "port": {
      const { name, path, device, state, detail } = line;
      const where = device === null || device === path ? path : `${path} (${device})`;
      const why = detail === null ? "" : `\n  ${printable(detail)}`;
      return `${printable(`${name}: ${state}, ${where}, ${settingsText(line)}`)}${why}\n`;
    }
    case "opened":
      return said("opened", line.device);
    case "closed":
      return said("closed", line.detail ?? "");
    case "bytes":
      return said("bytes", hexText(line.hex));
    case "reading": {
      const { class: kind, reading, refused, duplicates } = line;
      const value = reading === null ? "(too long to be shown)" : JSON.stringify(reading);
      const notes = [
        ...(refused > 0 ? [`${count(refused)} refused by the gateway`] : []),
        ...(duplicates > 0 ? [`${count(duplicates)} known already`] : []),
      ];
      const note = notes.length === 0 ? "" : ` (${notes.join(", ")})`;
      const text = `${kind ?? ""} ${value}${note}`.trim();
      if (line.source !== undefined) return said("reading", `${line.source}: ${text}`);
      return `${said("reading", frameText(line, hex))}${INDENT}${printable(text)}\n`;
    }
    case "refused":
      return said("refused", `${line.detail}: ${frameText(line, hex)}`);
    case "ignored":
      return said("ignored", frameText(line, hex));
    case "discarded":
      return said("discarded", `${line.reason}, ${count(line.length)} bytes: ${frameText(line, hex)}`);
    case "fault":
      return said("fault", `${line.device}: ${line.detail}`);
    case "dropped":
      return said("", `(${count(line.lines)} lines left out: more came than can be shown)`);
    case "ended":
      return said("ended", "the gateway has closed the port for good: it stops");
  }
}

/** `4800 bit/s 8N1, framing lines, codec nmea0183`; `9600 bit/s 8N1, modbus`. */
function settingsText(line: TimedTailLine & { readonly kind: "port" }): string {
  const { baudRate, dataBits, parity, stopBits, framing, codec } = line;
  // These two have frames of their own.
  const language = codec === "modbus" || codec === "sdi12" ? codec : `framing ${framing}, codec ${codec}`;
  return `${baudRate} bit/s ${dataBits}${parity.charAt(0).toUpperCase()}${stopBits}, ${language}`;
}

function frameText({ length, hex }: Shown, asHex: boolean): string {
  const bytes = Buffer.from(hex, "hex");
  const isText = !asHex && bytes.every((byte) => byte >= 0x20 && byte < 0x7f);
  const shown = isText ? bytes.toString("latin1") : hexText(asHex ? hex : hex.slice(0, 2 * HEX_BYTES));
  const shownBytes = isText || asHex ? bytes.length : Math.min(bytes.length, HEX_BYTES);
  return shownBytes < length ? `${shown} …` : shown;
}

/** `42 4d 00 1c`. */
export function hexText(hex: string): string {
  return hex.replace(/(..)(?=.)/g, "$1 ");
}
