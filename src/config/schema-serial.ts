/**
 * The `serial` section of the configuration's schema: one port. `serialFraming` and `serialCodec` are what a device profile has
 * as well.
 */

import { SCALAR_TYPES } from "../codec/binary-scalars.ts";
import { CHECKSUM_TYPES } from "../codec/checksum.ts";
import { CODECS, FRAMINGS } from "../codec/pipeline-config.ts";
import { serialPolling } from "./schema-serial-poll.ts";
import { serialDevice, serialLine } from "./schema-serial-port.ts";
import { bits, meaning } from "./schema-serial-values.ts";
import { duration, hex, size, some } from "./schema-terms.ts";

const endian = (description: string, value: "big" | "little" = "big") =>
  ({ type: "string", enum: ["big", "little"], default: value, description }) as const;

/** Places in a frame, from its start or, negative, from its end. */
const place = (description: string) => ({ type: "integer", minimum: -65536, maximum: 65536, description }) as const;

const checksum = {
  type: "object",
  description: "The checksum that a frame carries; a frame with another one is discarded and counted.",
  additionalProperties: false,
  required: ["type"],
  properties: {
    type: { type: "string", enum: CHECKSUM_TYPES, description: "Its catalogue name." },
    at: place("Where it stands, from the frame's start, or negative from its end; by default it ends the frame."),
    from: { ...place("The first byte that it covers."), default: 0 },
    to: place("The byte behind the last that it covers; by default where it stands."),
    endian: endian("Its byte order; Modbus is little."),
    complement: {
      type: "string",
      enum: ["none", "ones", "twos"],
      default: "none",
      description: "ones: sent with every bit inverted; twos: as the number that makes the sum 0.",
    },
    encoding: {
      type: "string",
      enum: ["bytes", "hex"],
      default: "bytes",
      description: "hex: written as two hexadecimal digits a byte.",
    },
  },
} as const;

const lengthField = {
  type: "object",
  description: "Of framing length-prefixed: where a frame tells its length.",
  additionalProperties: false,
  required: ["at"],
  properties: {
    at: { type: "integer", minimum: 0, maximum: 255, description: "Its first byte, from the frame's start." },
    size: { type: "integer", enum: [1, 2, 4], default: 1, description: "Its bytes." },
    endian: endian("Its byte order."),
    counts: {
      type: "string",
      enum: ["frame", "rest", "payload"],
      default: "rest",
      description: "What it counts: the whole frame, what stands behind the field, or the same without the checksum.",
    },
    extra: {
      type: "integer",
      minimum: -65536,
      maximum: 65536,
      default: 0,
      description: "Bytes of the frame that it leaves out of its count all the same.",
    },
  },
} as const;

/** How frames are told apart. */
export const serialFraming = {
  framing: {
    type: "string",
    enum: FRAMINGS,
    default: "lines",
    description:
      "How frames are told apart: by any line end, declared bytes, their length, escapes, or a pause; ve-direct is Victron's.",
  },
  maxFrameBytes: size("4KiB", "Longer frames are discarded and counted.", { atLeast: "16B", atMost: "1MiB" }),
  delimiter: hex("Of framing delimiter: the bytes that end a frame, in hexadecimal, such as '0d 0a'."),
  header: hex("Of framings fixed and length-prefixed: the bytes that begin every frame, in hexadecimal."),
  length: {
    type: "integer",
    minimum: 1,
    maximum: 1048576,
    description: "Of framing fixed: bytes of a frame, header and checksum included.",
  },
  lengthField,
  idle: {
    type: "string",
    format: "duration",
    atLeast: "1ms",
    atMost: "1h",
    description:
      "A pause that ends a frame (framing idle), or gives up an unfinished one (fixed, length-prefixed); USB adapters make some of 16ms.",
  },
  checksum,
} as const;

const field = {
  ...meaning,
  at: {
    type: "integer",
    minimum: 0,
    maximum: 1048576,
    description: "Its first byte, from the frame's start, header included; without one, behind the field before it.",
  },
  endian: {
    type: "string",
    enum: ["big", "little"],
    description: "Its byte order, where it is not the layout's.",
  },
  length: {
    type: "integer",
    minimum: 1,
    maximum: 1048576,
    description: "Bytes of text, bytes or skip; without one, to the frame's end.",
  },
  equals: { type: "number", description: "A frame with another raw number here is of another kind, and ignored." },
  bits,
} as const;

const member = {
  type: "object",
  additionalProperties: false,
  required: ["type"],
  properties: {
    ...field,
    type: { type: "string", enum: [...SCALAR_TYPES, "text", "bytes", "skip"], description: "What it is." },
  },
} as const;

const layout = {
  type: "object",
  description: "Of codec binary: what stands where in a frame.",
  additionalProperties: false,
  required: ["fields"],
  properties: {
    endian: endian("Byte order."),
    fields: {
      type: "array",
      minItems: 1,
      maxItems: 1024,
      description: "The fields, in order.",
      items: {
        type: "object",
        additionalProperties: false,
        required: ["type"],
        properties: {
          ...field,
          type: {
            type: "string",
            enum: [...SCALAR_TYPES, "text", "bytes", "skip", "group"],
            description: "A number by its bits, text (UTF-8), bytes (given in hexadecimal), skip, or group.",
          },
          count: {
            type: "integer",
            minimum: 1,
            maximum: 1024,
            description: "How often a group is repeated; without one, to the frame's end.",
          },
          fields: {
            type: "array",
            minItems: 1,
            maxItems: 256,
            description: "A group's fields, their places counted from the beginning of each repetition.",
            items: member,
          },
        },
      },
    },
  },
} as const;

const csvColumn = {
  anyOf: [
    { type: "string", minLength: 1 },
    {
      type: "object",
      additionalProperties: false,
      required: ["name"],
      properties: {
        name: { type: "string", minLength: 1 },
        type: { type: "string", enum: ["number", "text", "boolean", "skip"] },
        expect: { type: "string" },
      },
    },
  ],
} as const;

const fields = {
  type: "object",
  description: "Of codec fields: what stands between labels and values, and what the labels stand for.",
  additionalProperties: false,
  properties: {
    separator: {
      type: "string",
      minLength: 1,
      maxLength: 8,
      description: "Between a label and its value; without one, a tab.",
    },
    between: { type: "string", minLength: 1, maxLength: 8, description: "Between two fields; without one, line ends." },
    known: {
      type: "array",
      minItems: 1,
      maxItems: 256,
      description: "The labels that are known, in any order.",
      items: {
        type: "object",
        additionalProperties: false,
        required: ["label"],
        properties: {
          label: { type: "string", minLength: 1, maxLength: 256, description: "The label as the device writes it." },
          name: { ...meaning.name, description: "Its name in the reading, unit included; without one, the label." },
          type: {
            type: "string",
            enum: ["number", "text"],
            description: "number refuses anything else, text keeps digits as text; without one, what it looks like.",
          },
          scale: meaning.scale,
          offset: meaning.offset,
          values: { ...meaning.values, description: "Words for values, such as { 3: bulk, 5: float }." },
          none: {
            type: "array",
            minItems: 1,
            maxItems: 64,
            items: { type: "string" },
            description: "Values that mean that there is no reading; quote them.",
          },
        },
      },
    },
    others: {
      type: "string",
      enum: ["keep", "drop"],
      description: "What becomes of labels that are not known; without one they are kept.",
    },
  },
} as const;

/** How a frame is read. */
export const serialCodec = {
  codec: {
    type: "string",
    enum: CODECS,
    description:
      "How a frame is read; senml is RFC 8428 in JSON or CBOR, binary has a declared `layout`, fields are labelled values. Required but with `modbus` and `sdi12`.",
  },
  columns: {
    type: "array",
    minItems: 1,
    maxItems: 256,
    items: csvColumn,
    description:
      "Columns of codec csv, in order: a name, or { name, type: number | text | boolean | skip, expect: text it must be }.",
  },
  separator: {
    type: "string",
    minLength: 1,
    maxLength: 1,
    default: ",",
    description: "Column separator of codec csv.",
  },
  layout,
  fields,
} as const;

const speed = {
  baudRate: { type: "integer", minimum: 50, maximum: 4000000, default: 9600, description: "Bits per second." },
  dataBits: { type: "integer", enum: [5, 6, 7, 8], default: 8, description: "Data bits." },
  parity: { type: "string", enum: ["none", "even", "odd"], default: "none", description: "Parity." },
  stopBits: { type: "number", enum: [1, 1.5, 2], default: 1, description: "Stop bits." },
} as const;

/** What a device profile may say of the port on which the device is. */
export const serialProfile = {
  ...speed,
  ...serialLine,
  ...serialFraming,
  ...serialCodec,
  ...serialPolling,
  class: { type: "string", minLength: 1, description: "Class of a reading that names none." },
} as const;

export const serialPort = {
  type: "object",
  additionalProperties: false,
  required: ["name"],
  properties: {
    name: {
      type: "string",
      pattern: "^[A-Za-z0-9_-]{1,64}$",
      inWords: "1 to 64 letters, digits, _ or -",
      description: "The port's name in status, metrics and log.",
    },
    ...serialDevice,
    profile: {
      type: "string",
      minLength: 1,
      description:
        "Device profile: a name of `summit-edge profiles list`, or a file of your own beside this one, such as ./probe.yaml. It brings every key that the port does not say itself.",
    },
    ...serialProfile,
    source: {
      type: "string",
      minLength: 1,
      description: "Source of a reading that names none; by default the port's name.",
    },
    priority: {
      type: "string",
      enum: ["critical", "high", "normal", "low"],
      description: "Priority of a reading that names none.",
    },
    reopen: {
      type: "object",
      additionalProperties: false,
      default: {},
      description: "Back-off between attempts to open the port again.",
      properties: {
        initial: duration("1s", "First wait; without one, 1s or `max` where that is shorter.", some),
        max: duration("60s", "Longest wait.", some),
      },
    },
  },
} as const;
