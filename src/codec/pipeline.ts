/**
 * From a port's configuration (or a device profile's) to the framer, the decoder and the writer that it means. Pure: the same
 * bytes can be tried offline, from a capture. Whoever builds a pipeline has asked `pipelineFaults` first.
 */
import { BinaryDecoder } from "./binary.ts";
import { checksumCut, checksumWidth, hasChecksum, withChecksum } from "./checksum.ts";
import type { Decoder } from "./decoder.ts";
import { FieldsDecoder } from "./fields.ts";
import { DelimiterFramer, type Framer, IdleFramer, LineFramer, type Unwrap, UnwrappingFramer } from "./framing.ts";
import { fixedLength, HeaderFramer, prefixedLength, withLength } from "./framing-header.ts";
import { VeDirectFramer, veDirectBlock } from "./framing-ve-direct.ts";
import { NmeaDecoder } from "./nmea.ts";
import { bytesOf, type CodecConfig, type FramingConfig, isHeaded } from "./pipeline-config.ts";
import { COBS_DELIMITER, decodeCobs, encodeCobs, HDLC, SLIP, type Stuffing, stuff, unstuff } from "./stuffing.ts";
import { CsvDecoder, JsonDecoder } from "./text.ts";

/** A configuration that asks for what it does not declare: `pipelineFaults` names it. */
class IncompletePipeline extends TypeError {}

function declared<T>(value: T | undefined, key: string): T {
  if (value === undefined) throw new IncompletePipeline(`a pipeline without \`${key}\``);
  return value;
}

/** The framer of `config`, which has no `pipelineFaults`. One for each stream: it holds what is not decided yet. */
export function createFramer(config: FramingConfig): Framer {
  const { checksum } = config;
  const framer = bareFramer(config);
  if (checksum === undefined) return framer;
  // A framing with a header has looked at the checksum already, to know what is a frame.
  if (isHeaded(config))
    return new UnwrappingFramer(framer, (bytes) => checksumCut(bytes, checksum), { knowsCut: true });
  const checked: Unwrap = (bytes) => (hasChecksum(bytes, checksum) ? checksumCut(bytes, checksum) : "bad-checksum");
  return new UnwrappingFramer(framer, checked, { knowsCut: true });
}

function bareFramer(config: FramingConfig): Framer {
  const { framing, checksum, maxFrameBytes, idle: idleAfter } = config;
  const header = bytesOf(config.header ?? "");
  switch (framing) {
    case "lines":
      return new LineFramer(maxFrameBytes);
    case "delimiter":
      return new DelimiterFramer(bytesOf(declared(config.delimiter, "delimiter")), maxFrameBytes);
    case "idle":
      return new IdleFramer(declared(config.idle, "idle"), maxFrameBytes);
    case "fixed": {
      const lengthOf = fixedLength(declared(config.length, "length"));
      return new HeaderFramer({ header, lengthOf, checksum, maxFrameBytes, idleAfter });
    }
    case "length-prefixed": {
      const width = checksum === undefined ? 0 : checksumWidth(checksum);
      const lengthOf = prefixedLength(declared(config.lengthField, "lengthField"), width);
      return new HeaderFramer({ header, lengthOf, checksum, maxFrameBytes, idleAfter });
    }
    case "slip":
      return escapedFramer(SLIP.delimiter, maxFrameBytes, (bytes) => unstuff(bytes, SLIP));
    case "hdlc":
      return escapedFramer(HDLC.delimiter, maxFrameBytes, (bytes) => unstuff(bytes, HDLC));
    case "cobs":
      return escapedFramer(COBS_DELIMITER, maxFrameBytes, decodeCobs);
    case "ve-direct":
      return new VeDirectFramer(maxFrameBytes);
  }
}

/** The bound holds for what is on the wire, which is never shorter than what it stands for. */
function escapedFramer(delimiter: number, maxFrameBytes: number, unwrap: Unwrap): Framer {
  return new UnwrappingFramer(new DelimiterFramer(Uint8Array.of(delimiter), maxFrameBytes), unwrap, {
    knowsCut: false,
  });
}

/**
 * The decoder of `config`, which has no `pipelineFaults`. One for each stream: it remembers dates. What reads CBOR takes 6 MiB of
 * memory and is loaded only where it is asked for.
 */
export async function createDecoder(config: CodecConfig): Promise<Decoder> {
  switch (config.codec) {
    case "json":
      return new JsonDecoder();
    case "nmea0183":
      return new NmeaDecoder();
    case "senml":
      return new (await import("./senml.ts")).SenmlDecoder();
    case "cbor":
      return new (await import("./cbor.ts")).CborDecoder();
    case "csv":
      return new CsvDecoder(declared(config.columns, "columns"), config.separator);
    case "binary":
      return new BinaryDecoder(declared(config.layout, "layout"));
    case "fields":
      return new FieldsDecoder(config.fields ?? {});
  }
}

/** Writes a frame, as the framer of `config` gives it to its codec, onto the wire: for simulated devices and polled ones. */
export function createFrameWriter(config: FramingConfig): (frame: Uint8Array) => Uint8Array {
  const { checksum } = config;
  const wrap = bareWriter(config);
  if (checksum === undefined) return wrap;
  // Header and length may be under the checksum; escaping and delimiters never are.
  if (isHeaded(config)) return (frame) => withChecksum(wrap(frame), checksum);
  return (frame) => wrap(withChecksum(frame, checksum));
}

function bareWriter(config: FramingConfig): (frame: Uint8Array) => Uint8Array {
  switch (config.framing) {
    case "lines":
      return (frame) => joined(frame, LINE_END);
    case "delimiter": {
      const delimiter = bytesOf(declared(config.delimiter, "delimiter"));
      return (frame) => joined(frame, delimiter);
    }
    case "slip":
      return stuffer(SLIP);
    case "hdlc":
      return stuffer(HDLC);
    case "cobs":
      return encodeCobs;
    case "ve-direct":
      return veDirectBlock;
    case "length-prefixed": {
      const field = declared(config.lengthField, "lengthField");
      const header = bytesOf(config.header ?? "");
      const { checksum } = config;
      return (frame) => withLength(headed(frame, header), field, checksum);
    }
    case "fixed": {
      const header = bytesOf(config.header ?? "");
      return (frame) => headed(frame, header);
    }
    case "idle":
      return (frame) => frame;
  }
}

const LINE_END = Uint8Array.of(0x0d, 0x0a);

function stuffer(stuffing: Stuffing): (frame: Uint8Array) => Uint8Array {
  return (frame) => stuff(frame, stuffing);
}

function joined(frame: Uint8Array, end: Uint8Array): Uint8Array {
  const wire = new Uint8Array(frame.length + end.length);
  wire.set(frame);
  wire.set(end, frame.length);
  return wire;
}

/** The frame with `header` written over its beginning, where there is room for it. */
function headed(frame: Uint8Array, header: Uint8Array): Uint8Array {
  const wire = frame.slice();
  wire.set(header.subarray(0, wire.length));
  return wire;
}
