import { Socket } from "node:net";
import { systemClock } from "#src/kernel/clock.js";
import { MqttGate } from "#src/sources/mqtt/gate.js";
import { mqttLimits } from "./broker-under-test.ts";

/** What a gate made of the bytes that came in. */
export interface Passed {
  /** What it let pass to the engine. */
  readonly bytes: Buffer;
  /** Why it ended the connection. */
  readonly refusals: readonly string[];
}

/** Feeds a gate with exactly these chunks, without a network that would cut them otherwise; its client was let in. */
export async function feedGate(chunks: readonly Buffer[], answers: readonly Buffer[] = []): Promise<Passed> {
  const socket = new Socket();
  const refusals: string[] = [];
  const limits = { ...mqttLimits, maxPacketBytes: 1 << 20 };
  const gate = new MqttGate(socket, limits, systemClock, (_code, reason) => refusals.push(reason));
  gate.on("error", () => {});
  const passed: Buffer[] = [];
  gate.on("data", (chunk: Buffer) => passed.push(chunk));
  gate.open();
  for (const answer of answers) gate.write(answer);
  for (const chunk of chunks) socket.emit("data", chunk);
  await new Promise((resolve) => setImmediate(resolve));
  gate.destroy();
  socket.destroy();
  return { bytes: Buffer.concat(passed), refusals };
}

/** A stream of bytes in pieces of these sizes, in turn. */
export function cut(stream: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, turn = 0; at < stream.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(stream.subarray(at, at + size));
    at += size;
  }
  return chunks;
}
