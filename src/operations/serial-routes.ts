/** Looking on at a serial port over HTTP: lines of JSON, as long as the caller stays (docs/http-api.md). */
import type { FastifyRequest } from "fastify";
import { refusal } from "./refused.ts";
import type { Register, RoutesContext } from "./routes.ts";
import * as schemas from "./schemas.ts";
import { SerialTail } from "./serial-tail.ts";

/** How many may look on at a time, at all ports together: each may hold a buffer. */
export const MAX_TAILS = 8;
/** What an orderly end may take before the connection is cut: whoever does not read holds up no stop of the gateway. */
const END_WITHIN_MS = 1000;
/** How often it is asked whether the caller's key is still good. */
const LOOK_AT_KEY_MS = 10_000;

export const TAIL_TYPE = "application/x-ndjson";

export function addSerialRoutes(
  register: Register,
  { view, clock, stillAllowed }: Pick<RoutesContext, "view" | "clock" | "stillAllowed">,
): void {
  let open = 0;
  register<{ Params: schemas.SerialParams; Querystring: schemas.TailQuery }>(
    {
      method: "GET",
      url: "/api/v1/serial/:name/tail",
      summary: "What comes over a serial port, as it comes: a line of JSON for each frame, without end.",
      schema: { params: schemas.serialParams, querystring: schemas.tailQuery },
      answer: TAIL_TYPE,
      endless: true,
    },
    (request) => {
      const { params, query, raw } = request;
      const port = view.serialPort(params.name);
      if (port === undefined)
        throw refusal("RESOURCE_NOT_FOUND", `there is no serial port ${params.name}`, portsHint(view));
      if (open >= MAX_TAILS)
        throw refusal("TAILS_EXHAUSTED", `${MAX_TAILS} look on at serial ports already`, "End one of them.");
      open++;
      const tail = new SerialTail(port, clock, query.what);
      tail.once("close", () => void open--);
      tail.once("ended", () => {
        const cancel = clock.after(END_WITHIN_MS, () => raw.socket.destroy());
        raw.socket.once("close", cancel);
      });
      endWithKey(tail, () => stillAllowed(request as FastifyRequest));
      return tail;
    },
  );

  /** Whose key is revoked, or expires, looks on no longer. */
  function endWithKey(tail: SerialTail, allowed: () => Promise<boolean>): void {
    let cancel = (): void => {};
    const look = async (): Promise<void> => {
      if (!(await allowed())) tail.destroy();
      if (!tail.destroyed) cancel = clock.after(LOOK_AT_KEY_MS, look);
    };
    cancel = clock.after(LOOK_AT_KEY_MS, look);
    tail.once("close", () => cancel());
  }
}

function portsHint(view: RoutesContext["view"]): string {
  const names = view.sources().flatMap(({ kind, name }) => (kind === "serial" ? [name] : []));
  return names.length === 0 ? "The configuration has none." : `Name one of ${names.join(", ")}.`;
}
