/** The thread of `verify-apart.ts`. */
import { parentPort, workerData } from "node:worker_threads";
import { messageOf } from "../../kernel/errors.ts";
import { verifyTrail } from "./verify.ts";
import type { VerifyAnswer } from "./verify-apart.ts";

const answer: VerifyAnswer = await verifyTrail(workerData as string).then(
  (report) => ({ report }),
  (error: unknown) => ({ fault: messageOf(error) }),
);
parentPort?.postMessage(answer);
