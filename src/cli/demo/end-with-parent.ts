/**
 * Preloaded (`node --import`) into the gateway that the demo starts: ends it cleanly when the demo is gone, however that
 * ended, so that nothing is left running. The daemon itself knows nothing of it; in the field its supervisor sees to that.
 */
import { isMainThread } from "node:worker_threads";

function end(): void {
  process.kill(process.pid, "SIGTERM");
}

// The kernel closes the channel to the demo when the demo's process ends. Workers inherit the preload, not the channel.
if (isMainThread) {
  process.once("disconnect", end);
  process.channel?.unref();
  if (!process.connected) end();
}
