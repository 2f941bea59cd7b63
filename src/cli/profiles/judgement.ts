/** How a capture's trial against profiles is told to a person. Pure. */
import type { ProfileScore, TriedFrame } from "../../codec/profile-scores.ts";
import { count, printable } from "../format.ts";

/** Bytes of a frame that is shown as it came. */
const SHOWN_BYTES = 24;

/** One line for what became of a frame. */
export function triedText({ frame, decoded }: TriedFrame): string {
  if (frame.kind === "discarded")
    return `discarded  ${frame.reason}, ${count(frame.length)} bytes: ${bytesText(frame.bytes)}\n`;
  if (decoded?.kind === "reading") return `reading    ${printable(JSON.stringify(decoded.payload))}\n`;
  if (decoded?.kind === "refused") return `refused    ${printable(decoded.detail)}: ${bytesText(frame.bytes)}\n`;
  return `ignored    ${bytesText(frame.bytes)}\n`;
}

function bytesText(bytes: Uint8Array): string {
  const shown = bytes.subarray(0, SHOWN_BYTES);
  const isText = shown.every((byte) => byte >= 0x20 && byte < 0x7f);
  const text = isText
    ? Buffer.from(shown).toString("latin1")
    : (Buffer.from(shown).toString("hex").match(/../g) ?? []).join(" ");
  return bytes.length > shown.length ? `${text} …` : text;
}

export function percent(share: number): string {
  // Never a whole hundred for what is short of it.
  return `${Math.floor(share * 1000) / 10}%`;
}

/** Rows for a table: profile, readings, share understood, share of known fields, whether it fits. */
export function scoreRows(scores: readonly ProfileScore[]): string[][] {
  return scores.map(({ name, readings, explained, familiar, fits }) => [
    name,
    count(readings),
    percent(explained),
    readings === 0 ? "" : percent(familiar),
    fits ? "fits" : "",
  ]);
}

export function bestText(best: ProfileScore | undefined): string {
  if (best !== undefined) return `\nIt is most probably a device of profile ${best.name}: ${tallyText(best)}.\n`;
  return "\nNo profile fits. Was it captured at the right speed (summit-edge doctor)? Else the device wants a profile of its own. Modbus devices are not told by a capture: it has no requests.\n";
}

export function verdictText(score: ProfileScore): string {
  const verdict = score.fits ? "fits" : "does NOT fit";
  return `\n${score.name} ${verdict}: ${tallyText(score)}.\n`;
}

function tallyText({ bytes, readings, refused, ignored, discarded, explained }: ProfileScore): string {
  const parts = [`${count(readings)} readings`, `${count(ignored)} frames of other kinds`, `${count(refused)} refused`];
  return `${count(bytes)} bytes, ${percent(explained)} understood; ${parts.join(", ")}, ${count(discarded)} discarded`;
}
