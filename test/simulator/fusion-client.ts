/** A gateway's side of the batch interface, as the tests of the reference service need it. */
import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { systemClock } from "#src/kernel/clock.js";
import { BATCH_PATH, FusionService } from "#src/simulator/fusion.js";
import { freePort } from "../support/free-port.ts";

export const silent = pino({ enabled: false });

export type Json = Record<string, unknown>;

export interface Answer {
  status: number;
  headers: Headers;
  body: Json;
}

let lastSeq = 0;

export function observation(over: Json = {}): Json & { id: string } {
  const { id = randomUUID(), ...rest } = over as { id?: string };
  return {
    id,
    class: "smoke",
    ts_iso: "2026-07-01T12:00:00.000Z",
    confidence: 0.87,
    source: "mast-3",
    priority: "normal",
    attributes: { temperature_c: 41.2 },
    gateway: { id: "sierra-014", seq: ++lastSeq, received_at: "2026-07-01T12:00:00.100Z", clock: "synchronised" },
    ...rest,
  };
}

export function envelope(observations: unknown, over: Json = {}): Json {
  return {
    schema: "summit.observations/1",
    gateway_id: "sierra-014",
    sent_at: "2026-07-01T12:00:01.000Z",
    replayed: false,
    observations,
    ...over,
  };
}

export async function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`${url}${BATCH_PATH}`, {
    method: "POST",
    body: body instanceof Uint8Array ? body : JSON.stringify(body),
    headers: { "content-type": "application/json", ...headers },
    redirect: "manual",
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Json };
}

export async function get(url: string): Promise<Answer> {
  const response = await fetch(url);
  return { status: response.status, headers: response.headers, body: (await response.json()) as Json };
}

/** A service that listens on any free port for as long as `use` takes. */
export async function withFusion(
  options: Partial<ConstructorParameters<typeof FusionService>[0]>,
  use: (service: FusionService, url: string) => Promise<void>,
): Promise<void> {
  const service = new FusionService({ clock: systemClock, log: silent, ...options });
  try {
    const { url } = await service.listen(await freePort());
    await use(service, url);
  } finally {
    await service.dispose();
  }
}
