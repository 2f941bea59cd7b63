/** The thread in which `newestIdsApart` reads. */
import { parentPort, workerData } from "node:worker_threads";
import { type IdsThreadData, newestIds } from "./newest-ids.ts";
import { Store } from "./store.ts";

const { limit, ...options } = workerData as IdsThreadData;
const store = new Store({ ...options, readOnly: true });
const ids = newestIds(store, limit);
store.close();
parentPort?.postMessage(ids, [ids.buffer as ArrayBuffer]);
