/**
 * What is wrong with the devices on a polled port: who, and since when. Each kind of trouble is one condition of the port, which
 * names all that are in it, and goes when none is any more. The log has a line for each device that falls into trouble, and for each
 * that comes out of it.
 */
import type { Clock } from "../../../kernel/clock.ts";
import type { Conditions } from "../../../kernel/conditions.ts";
import type { Logger } from "../../../kernel/telemetry.ts";
import type { Station, Turn } from "./station.ts";

export interface RecordParts {
  readonly clock: Clock;
  readonly conditions: Conditions;
  readonly log: Logger;
}

type Code = "serial-no-answer" | "serial-bad-answer" | "serial-exception";

interface Trouble {
  readonly code: Code;
  readonly what: string;
  /** Wall time in milliseconds. */
  readonly since: number;
}

const ADVICE: Readonly<Record<Code, string>> = {
  "serial-no-answer": "look at its power, its cable and its address; it is asked again by itself",
  "serial-bad-answer": "look at cable and termination, and for a second device with the same address",
  "serial-exception": "compare with the device's manual what it is asked for",
};
/** More than this a condition does not name: a whole bus without power is one trouble. */
const MOST_NAMED = 8;

export class PollRecord {
  readonly #component: string;
  readonly #place: string;
  readonly #parts: RecordParts;
  readonly #troubles = new Map<Station, Trouble>();
  #hasAnswered = false;

  /** `place`: the port, as the operator has written it. */
  constructor(component: string, place: string, parts: RecordParts) {
    this.#component = component;
    this.#place = place;
    this.#parts = parts;
  }

  /** How a device's turn has ended. */
  note(station: Station, turn: Turn): void {
    const before = this.#troubles.get(station);
    const now = troubleOf(turn);
    const isFirst = !this.#hasAnswered && (turn.kind !== "fault" || turn.partly);
    this.#hasAnswered ||= isFirst;
    if (now === undefined) this.#troubles.delete(station);
    else
      this.#troubles.set(station, {
        ...now,
        since: before?.code === now.code ? before.since : this.#parts.clock.now(),
      });
    this.#tell(station, before, now?.code, now?.what);
    if (isFirst || before !== undefined || now !== undefined) this.#update();
  }

  /** The port itself is in trouble: who answers on it is not known any more. */
  clear(): void {
    this.#troubles.clear();
    this.#hasAnswered = false;
    this.#update();
  }

  #tell(station: Station, before: Trouble | undefined, code: Code | undefined, what: string | undefined): void {
    const { log } = this.#parts;
    const fields = { device: station.device };
    if (code !== undefined && before?.code !== code) log.warn({ ...fields, code }, `${station.label}: ${what}`);
    if (code === undefined && before !== undefined) log.info(fields, `${station.label} is well again`);
  }

  #update(): void {
    const { conditions } = this.#parts;
    for (const code of Object.keys(ADVICE) as Code[]) {
      const those = [...this.#troubles].filter(([, trouble]) => trouble.code === code);
      if (those.length === 0) conditions.clear(this.#component, code);
      else conditions.raise(this.#component, code, "degraded", this.#detail(code, those), { told: true });
    }
  }

  #detail(code: Code, those: readonly (readonly [Station, Trouble])[]): string {
    const named = those
      .slice(0, MOST_NAMED)
      .map(([station, { what, since }]) => `${station.label} since ${new Date(since).toISOString()}: ${what}`);
    const others = those.length - named.length;
    const list = [...named, ...(others > 0 ? [`and ${others} more`] : [])].join("; ");
    const nobody =
      code !== "serial-exception" && !this.#hasAnswered
        ? `nobody has answered on ${this.#place} since it was opened: check baudRate, parity and the wires (for RS-485, A and B exchanged)`
        : ADVICE[code];
    return `${list}; ${nobody}`;
  }
}

/** What went wrong in a turn, and what is said of it; nothing where all went well. */
export function troubleOf(turn: Turn): Omit<Trouble, "since"> | undefined {
  if (turn.kind === "exception") return { code: "serial-exception", what: turn.detail };
  if (turn.kind !== "fault") return undefined;
  switch (turn.fault) {
    case "timeout":
      return { code: "serial-no-answer", what: `no answer to ${turn.detail}` };
    case "bad-crc":
      return { code: "serial-bad-answer", what: `a wrong checksum in the answer to ${turn.detail}` };
    case "bad-answer":
      return { code: "serial-bad-answer", what: `what came is no answer to ${turn.detail}` };
  }
}
