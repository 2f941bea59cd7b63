import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { describe, test } from "node:test";
import { type Daemon, supervise } from "#src/cli/supervise.js";
import { createLog } from "#src/kernel/telemetry.js";
import { TestClock } from "../support/test-clock.ts";

interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: Error): void;
}

function deferred<T>(): Deferred<T> {
  let resolve: Deferred<T>["resolve"] = () => {};
  let reject: Deferred<T>["reject"] = () => {};
  const promise = new Promise<T>((fulfil, refuse) => {
    resolve = fulfil;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

class Scene {
  readonly events = new EventEmitter();
  readonly clock = new TestClock();
  readonly exits: (number | "killed")[] = [];
  readonly done: string[] = [];
  readonly lines: { level: string; msg: string }[] = [];
  readonly stopping = deferred<void>();
  readonly reloading = [deferred<void>(), deferred<void>(), deferred<void>()];
  #reloads = 0;

  readonly daemon: Daemon = {
    stop: () => {
      this.done.push("stop");
      return this.stopping.promise;
    },
    reload: () => {
      this.done.push("reload");
      return this.reloading[this.#reloads++]?.promise ?? Promise.resolve();
    },
  };

  async supervise(start: () => Promise<Daemon> = async () => this.daemon): Promise<void> {
    const destination = { write: (line: string) => void this.lines.push(JSON.parse(line)) };
    const log = await createLog({ level: "info", format: "json" }, {}, destination);
    await supervise(start, {
      events: this.events,
      clock: this.clock,
      log,
      exit: (status) => this.exits.push(status),
      kill: () => this.exits.push("killed"),
    });
  }

  async emit(event: string, ...args: unknown[]): Promise<void> {
    this.events.emit(event, ...args);
    await this.clock.advance(0);
  }
}

describe("supervision", () => {
  for (const signal of ["SIGTERM", "SIGINT"])
    test(`${signal} stops cleanly and ends with status 0, not before the stop is done`, async () => {
      const scene = new Scene();
      await scene.supervise();
      await scene.emit(signal);
      assert.deepEqual([scene.done, scene.exits], [["stop"], []]);
      scene.stopping.resolve();
      await scene.clock.advance(0);
      assert.deepEqual(scene.exits, [0]);
    });

  test("a second signal within a second is the same Ctrl-C once more", async () => {
    const scene = new Scene();
    await scene.supervise();
    await scene.emit("SIGINT");
    await scene.clock.advance(999);
    await scene.emit("SIGTERM");
    assert.deepEqual([scene.done, scene.exits], [["stop"], []]);
  });

  test("a second signal a second later ends it at once, whatever the wall clock says", async () => {
    const scene = new Scene();
    await scene.supervise();
    await scene.emit("SIGTERM");
    scene.clock.setWall(0);
    await scene.clock.advance(1000);
    await scene.emit("SIGINT");
    assert.deepEqual([scene.done, scene.exits], [["stop"], ["killed"]]);
  });

  test("a stop that fails ends with status 1, and says why", async () => {
    const scene = new Scene();
    await scene.supervise();
    await scene.emit("SIGTERM");
    scene.stopping.reject(new Error("the disk is gone"));
    await scene.clock.advance(0);
    assert.deepEqual(scene.exits, [1]);
    assert.equal(scene.lines.at(-1)?.level, "fatal");
  });

  test("a signal during the start waits for the start, then stops", async () => {
    const scene = new Scene();
    const start = deferred<Daemon>();
    const supervised = scene.supervise(() => start.promise);
    await scene.clock.advance(0);
    await scene.emit("SIGTERM");
    assert.deepEqual(scene.done, []);
    start.resolve(scene.daemon);
    await supervised;
    await scene.clock.advance(0);
    assert.deepEqual(scene.done, ["stop"]);
  });

  test("a start that fails is the caller's to report, signals or not", async () => {
    const scene = new Scene();
    const start = deferred<Daemon>();
    const supervised = scene.supervise(() => start.promise);
    await scene.clock.advance(0);
    await scene.emit("SIGTERM");
    await scene.emit("SIGHUP");
    start.reject(new Error("port taken"));
    await assert.rejects(supervised, /port taken/);
    assert.deepEqual(scene.exits, []);
  });

  test("SIGHUP reloads; several during one reload give one more", async () => {
    const scene = new Scene();
    await scene.supervise();
    for (const _ of [1, 2, 3]) await scene.emit("SIGHUP");
    assert.deepEqual(scene.done, ["reload"]);
    scene.reloading[0]?.resolve();
    await scene.clock.advance(0);
    assert.deepEqual(scene.done, ["reload", "reload"]);
    scene.reloading[1]?.resolve();
    await scene.clock.advance(0);
    assert.deepEqual(scene.done, ["reload", "reload"]);
    await scene.emit("SIGHUP");
    assert.equal(scene.done.length, 3);
  });

  test("a reload that fails is logged, and the daemon goes on", async () => {
    const scene = new Scene();
    await scene.supervise();
    scene.reloading[0]?.reject(new Error("unknown key"));
    await scene.emit("SIGHUP");
    assert.deepEqual(scene.exits, []);
    assert.equal(scene.lines.at(-1)?.level, "error");
    await scene.emit("SIGHUP");
    assert.deepEqual(scene.done, ["reload", "reload"]);
  });

  test("SIGHUP while stopping does nothing", async () => {
    const scene = new Scene();
    await scene.supervise();
    await scene.emit("SIGTERM");
    await scene.emit("SIGHUP");
    assert.deepEqual(scene.done, ["stop"]);
  });

  test("an error that nobody caught is logged as fatal and ends it with status 1", async () => {
    const scene = new Scene();
    await scene.supervise();
    await scene.emit("uncaughtException", new Error("bug"));
    assert.deepEqual(scene.exits, [1]);
    assert.equal(scene.lines.at(-1)?.level, "fatal");
  });
});
