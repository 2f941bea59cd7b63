/** The route that shows what was refused last, and how it is written in JSON. */
import type { QuarantineEntry } from "../sources/quarantine.ts";
import type { Register } from "./routes.ts";
import * as schemas from "./schemas.ts";
import type { GatewayView } from "./view.ts";

/** What was refused last, newest first; `kept`: how many there are. */
export interface QuarantineOut {
  readonly kept: number;
  readonly quarantine: readonly RefusalOut[];
}

/** A refusal as the API shows it: its time in RFC 3339, and `null` for the hexadecimal form of what is text. */
export interface RefusalOut extends Omit<QuarantineEntry, "at" | "hex"> {
  readonly at: string;
  readonly hex: string | null;
}

export function addQuarantineRoute(register: Register, view: GatewayView): void {
  register<{ Querystring: schemas.QuarantineQuery }>(
    {
      method: "GET",
      url: "/api/v1/quarantine",
      summary:
        "The beginnings of what was refused last, of each device, newest first. In memory only: a restart forgets them.",
      schema: { querystring: schemas.quarantineQuery },
      answer: schemas.quarantine,
    },
    ({ query }): QuarantineOut => {
      const refusals = view.quarantine();
      return { kept: refusals.size, quarantine: refusals.list(query.limit).reverse().map(refusalOut) };
    },
  );
}

function refusalOut({ at, hex, ...entry }: QuarantineEntry): RefusalOut {
  return { at: new Date(at).toISOString(), ...entry, hex: hex ?? null };
}
