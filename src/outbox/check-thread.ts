/** The thread in which `quickCheckApart` looks through a file. */
import { parentPort, workerData } from "node:worker_threads";
import { quickCheck } from "./file-check.ts";

parentPort?.postMessage(quickCheck(workerData as string));
