/** The routes of a replay, and how it is written in JSON (contract, section 6). */
import { callerOf } from "./caller.ts";
import { Refused } from "./refused.ts";
import type { Register } from "./routes.ts";
import * as schemas from "./schemas.ts";
import type { GatewayView, ReplayProgress, ReplayRefusal } from "./view.ts";

/** A replay as the API shows it: times in RFC 3339, and `null` for what is not known. */
export interface ReplayOut {
  readonly state: "none" | ReplayProgress["state"];
  readonly from: string | null;
  readonly to: string | null;
  readonly class: string | null;
  readonly source: string | null;
  readonly rate: number | null;
  readonly total: number | null;
  readonly sent: number;
  readonly refused: number;
  readonly damaged: number;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly lastFailure: { readonly code: string; readonly detail: string } | null;
}

const URL = "/api/v1/outbox/replay";

const REFUSALS: Record<ReplayRefusal, { code: string; detail: string; hint: string }> = {
  "no-uplink": {
    code: "REPLAY_NO_UPLINK",
    detail: "there is no uplink to send readings to",
    hint: "Set uplink.url, and start the daemon again.",
  },
  running: {
    code: "REPLAY_RUNNING",
    detail: "a replay is under way already",
    hint: "Wait for it, or end it with summit-edge outbox replay --stop.",
  },
  "nothing-kept": {
    code: "REPLAY_NOTHING_KEPT",
    detail: "delivered readings are not kept, so that none can be sent again",
    hint: "Set outbox.keepDelivered (7d, say) and start the daemon again: what is delivered from then on is kept.",
  },
};

export function addReplayRoutes(register: Register, { replay }: GatewayView): void {
  register<{ Body: schemas.ReplayBody }>(
    {
      method: "POST",
      url: URL,
      summary: "Sends delivered readings of a past range again.",
      schema: { body: schemas.replayRequest },
      answer: schemas.replay,
    },
    async (asked) => {
      const { from, to, ...rest } = asked.body;
      const range = { from: momentOf("from", from), to: momentOf("to", to) };
      if (range.from > range.to) throw new Refused(400, "VALIDATION_FAILED", "body/to lies before body/from");
      const started = await replay.start({ ...rest, ...range }, callerOf(asked));
      if (typeof started !== "string") return outOf(started);
      const { code, detail, hint } = REFUSALS[started];
      throw new Refused(409, code, detail, hint);
    },
  );
  register({ method: "GET", url: URL, summary: "How the replay fares.", schema: {}, answer: schemas.replay }, () =>
    outOf(replay.progress()),
  );
  register(
    { method: "DELETE", url: URL, summary: "Ends the replay.", schema: {}, answer: schemas.replay },
    async (asked) => outOf(await replay.stop(callerOf(asked))),
  );
}

function momentOf(member: string, text: string): number {
  const moment = Date.parse(text);
  if (Number.isNaN(moment)) throw new Refused(400, "VALIDATION_FAILED", `body/${member} is no time that there is`);
  return moment;
}

function outOf(progress: ReplayProgress | undefined): ReplayOut {
  const time = (ms: number | undefined): string | null => (ms === undefined ? null : new Date(ms).toISOString());
  return {
    state: progress?.state ?? "none",
    from: time(progress?.from),
    to: time(progress?.to),
    class: progress?.class ?? null,
    source: progress?.source ?? null,
    rate: progress?.rate ?? null,
    total: progress?.total ?? null,
    sent: progress?.sent ?? 0,
    refused: progress?.refused ?? 0,
    damaged: progress?.damaged ?? 0,
    startedAt: time(progress?.startedAt),
    endedAt: time(progress?.endedAt),
    lastFailure: progress?.lastFailure ?? null,
  };
}
