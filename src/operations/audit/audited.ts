/** What an operator does to the outbox, with an entry about each change in the audit trail. */
import type { Audit, AuditAction, AuditEvent } from "../../kernel/audit.ts";
import type { OutboxAdmin, ReplayAdmin, ReplayRequest, Selection, SelectionResult } from "../view.ts";

/** Where entries go. `flush` resolves once they are durable, or cannot be for now. */
export interface AuditSink {
  readonly record: Audit;
  flush(): Promise<void>;
}

/** As many readings' ids stand in one entry. */
const IDS_PER_ENTRY = 50;

/** The same outbox; `by` is who asks where the call itself does not say. An answer is given once its entry is durable. */
export function auditedOutbox(admin: OutboxAdmin, sink: AuditSink, by: string): OutboxAdmin {
  const { deadLetters } = admin;
  const change =
    (action: "requeue" | "drop") =>
    async (selection: Selection, caller = by): Promise<SelectionResult> => {
      const result = await deadLetters[action](selection, caller);
      const name = action === "requeue" ? "dead-letter.requeued" : "dead-letter.dropped";
      if (result.count > 0) for (const event of selected(name, selection, result, caller)) sink.record(event);
      await sink.flush();
      return result;
    };
  return { ...admin, deadLetters: { ...deadLetters, requeue: change("requeue"), drop: change("drop") } };
}

function* selected(
  action: AuditAction,
  selection: Selection,
  { count, unknown }: SelectionResult,
  actor: string,
): Generator<AuditEvent> {
  if (selection === "all") return yield { action, actor, subject: "all", detail: { count } };
  const unknownIds = new Set(unknown);
  const ids = [...new Set(selection)].filter((id) => !unknownIds.has(id));
  if (ids.length === 1) return yield { action, actor, subject: ids[0] ?? "", detail: { count } };
  for (let from = 0; from < ids.length; from += IDS_PER_ENTRY) {
    const some = ids.slice(from, from + IDS_PER_ENTRY);
    yield { action, actor, subject: "several", detail: { count: some.length, ids: some.join(" ") } };
  }
}

/** The same replay; its end is reported by itself. */
export function auditedReplay(admin: ReplayAdmin, sink: AuditSink, by: string): ReplayAdmin {
  return {
    progress: () => admin.progress(),
    start: async (request, caller = by) => {
      const started = await admin.start(request, caller);
      if (typeof started === "string") return started;
      sink.record({ action: "replay.started", actor: caller, detail: detailOf(request) });
      await sink.flush();
      return started;
    },
    stop: async (caller = by) => {
      const before = admin.progress()?.endedAt;
      const progress = await admin.stop(caller);
      if (progress !== undefined && before === undefined) {
        sink.record({ action: "replay.stopped", actor: caller, detail: { sent: progress.sent } });
        await sink.flush();
      }
      return progress;
    },
  };
}

function detailOf({ from, to, ...rest }: ReplayRequest): NonNullable<AuditEvent["detail"]> {
  return { from: new Date(from).toISOString(), to: new Date(to).toISOString(), ...rest };
}
