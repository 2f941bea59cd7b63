/** What a schema cannot say about how a port's bytes are read. Pure. */
import { type PipelineFault, pipelineFaults } from "../codec/pipeline-config.ts";
import type { SerialPortConfig } from "./schema.ts";

const CODEC_MISSING =
  "is missing: it says how a frame is read; or name a device with `profile` (`summit-edge profiles list` has them)";

/** How frames are read has to be said, but where the bus says itself what they are. */
export function frameFaults(port: SerialPortConfig): PipelineFault[] {
  if (port.modbus !== undefined || port.sdi12 !== undefined) return [];
  const { codec } = port;
  if (codec === undefined) return [{ path: ["codec"], message: CODEC_MISSING }];
  return pipelineFaults({ ...port, codec });
}
