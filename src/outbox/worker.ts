/**
 * The outbox's worker thread: owns the only writing connection, so that a slow card delays acknowledgements and never
 * the event loop. It answers one request after another, in order.
 */
import { resolve } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { systemClock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import { DataDirLock } from "./data-dir-lock.ts";
import { Engine } from "./engine.ts";
import { newestIds, peek } from "./inspection.ts";
import { closeProperly, noteDamage, noteFault, openChecked } from "./opening.ts";
import type { FaultReport, Operation, Operations, Reply, Request, WorkerSettings } from "./protocol.ts";
import { repairText } from "./repair.ts";
import { classify, type Store } from "./store.ts";

const port = parentPort;
if (port === null) throw new Error("the outbox's worker runs in a worker thread only");
const settings = workerData as WorkerSettings;
const file = resolve(settings.dataDir, settings.file);

function say(reply: Reply, transfer: ArrayBuffer[] = []): void {
  port?.postMessage(reply, transfer);
}

function report(thrown: unknown): FaultReport {
  noteFault(file, thrown);
  return { fault: classify(thrown), code: codeOf(thrown), message: messageOf(thrown) };
}

function build(store: Store): { engine: Engine; recentIds: Uint32Array } {
  const engine = new Engine(store, {
    gatewayId: settings.gatewayId,
    monotonic: systemClock.monotonic,
    now: systemClock.now,
    maxDeadLetters: settings.maxDeadLetters,
    waitForClock: settings.waitForClock,
    onNotice: (notice) => say({ kind: "notice", notice }),
  });
  return { engine, recentIds: newestIds(store, settings.recentIds) };
}

async function open(): Promise<{ lock: DataDirLock; store: Store; engine: Engine } | undefined> {
  try {
    const lock = DataDirLock.acquire(settings.dataDir);
    const { store, built, repair, checked } = await openChecked({ ...settings, file }, build);
    const { engine, recentIds } = built;
    if (repair !== undefined) {
      const { report, now } = repair;
      say({ kind: "notice", notice: { ...report, kind: "repaired", now, detail: repairText(report) } });
    }
    void checked.then((detail) => {
      if (detail === undefined) return;
      noteDamage(file, detail);
      say({ kind: "damage-found", detail });
    });
    say({ kind: "opened", books: engine.books(), recentIds }, [recentIds.buffer as ArrayBuffer]);
    return { lock, store, engine };
  } catch (thrown) {
    say({ kind: "not-opened", fault: report(thrown), hint: thrown instanceof GatewayError ? thrown.hint : undefined });
    return undefined;
  }
}

const opened = await open();

function perform(
  { lock, store, engine }: NonNullable<typeof opened>,
  request: Request,
): Operations[Operation]["gives"] {
  switch (request.op) {
    case "commit": {
      const from = systemClock.monotonic();
      engine.commit(request.takes);
      return { seconds: (systemClock.monotonic() - from) / 1000 };
    }
    case "lease":
      return engine.lease(request.takes);
    case "fixClock":
      engine.fixClock(request.takes.offsetMs);
      return undefined;
    case "part":
      return engine.part(request.takes.lease, request.takes.range);
    case "ids":
      return engine.ids(request.takes.lease);
    case "peek":
      return peek(store, request.takes.limit, request.takes.priority);
    case "deadLetters":
      return engine.deadLetters(request.takes.after, request.takes.limit);
    case "deadLettersOf":
      return engine.deadLettersOf(request.takes.id);
    case "requeue":
      return engine.requeue(request.takes);
    case "drop":
      return engine.drop(request.takes);
    case "ping":
      return undefined;
    case "close":
      closeProperly(store, file);
      lock.release();
      return undefined;
  }
}

if (opened !== undefined) {
  port.on("message", (request: Request) => {
    try {
      const gives = perform(opened, request);
      say({ kind: "done", id: request.id, gives, books: opened.engine.books() });
      if (request.op === "close") port.close();
    } catch (thrown) {
      say({ kind: "failed", id: request.id, fault: report(thrown) });
    }
  });
}
