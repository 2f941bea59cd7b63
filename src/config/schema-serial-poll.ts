/**
 * The part of a serial port's schema that has its devices asked instead of listened to: `modbus`, `sdi12` or `poll`, one of them.
 * A device profile may have them as well.
 */
import { MODBUS_TYPES } from "../codec/modbus-registers.ts";
import { SDI12_MEASUREMENTS } from "../codec/sdi12.ts";
import { bits, meaning } from "./schema-serial-values.ts";
import { duration, hex, some } from "./schema-terms.ts";

/** Longer than this, a device is not slow but gone. */
const atMostAMinute = { atLeast: "1ms", atMost: "1m" } as const;

const retries = { type: "integer", minimum: 0, maximum: 10 } as const;

/** What one device on a bus may have otherwise than its bus. */
const ownPace = {
  every: { type: "string", format: "duration", description: "Where it is not the bus's.", ...some },
  timeout: { type: "string", format: "duration", description: "Where it is not the bus's.", ...atMostAMinute },
  retries: { ...retries, description: "Where it is not the bus's." },
} as const;

/** Whose readings they are. */
const ownReadings = {
  source: {
    type: "string",
    minLength: 1,
    description: "Source of its readings; by default the port's name and the address, such as bus-1.",
  },
  class: { type: "string", minLength: 1, description: "Class of its readings, where it is not the port's." },
  priority: {
    type: "string",
    enum: ["critical", "high", "normal", "low"],
    description: "Priority of its readings, where it is not the port's.",
  },
} as const;

const register = {
  type: "object",
  additionalProperties: false,
  required: ["at"],
  properties: {
    ...meaning,
    function: {
      type: "integer",
      enum: [1, 2, 3, 4],
      default: 3,
      description: "Function code: 1 coils, 2 discrete inputs, 3 holding registers, 4 input registers.",
    },
    at: {
      type: "integer",
      format: "register-address",
      minimum: 0,
      maximum: 65535,
      description: "Its address as it is sent, from 0: what a manual calls 40001 or 30001 is 0.",
    },
    type: {
      type: "string",
      enum: MODBUS_TYPES,
      description: "What it is; without one, bit for functions 1 and 2, u16 for 3 and 4.",
    },
    words: {
      type: "string",
      enum: ["big", "little"],
      description: "Order of the registers of a longer number, where it is not the server's.",
    },
    endian: {
      type: "string",
      enum: ["big", "little"],
      description: "Byte order within a register, where it is not the server's.",
    },
    bits,
  },
} as const;

/** What a device profile says of a server: everything but whose it is. */
export const modbusDevice = {
  ...ownPace,
  words: {
    type: "string",
    enum: ["big", "little"],
    default: "big",
    description: "Order of the registers of a longer number: big has the most significant one first.",
  },
  endian: {
    type: "string",
    enum: ["big", "little"],
    default: "big",
    description: "Byte order within a register; by the specification it is big.",
  },
  gap: {
    type: "integer",
    minimum: 0,
    maximum: 100,
    default: 0,
    description: "So many registers that are not wanted may be read along, to save a request.",
  },
  maxRegisters: {
    type: "integer",
    minimum: 4,
    maximum: 125,
    default: 125,
    description: "Most registers that the server gives in one answer.",
  },
  registers: {
    type: "array",
    minItems: 1,
    maxItems: 512,
    items: register,
    description: "What is read, in any order; what lies side by side is read at once. One poll is one reading.",
  },
} as const;

const address = { type: "integer", minimum: 1, maximum: 247, description: "The server's address on the bus." } as const;

const modbusServer = {
  type: "object",
  additionalProperties: false,
  required: ["address", "registers"],
  properties: {
    address,
    profile: {
      type: "string",
      minLength: 1,
      description: "Its device profile, which brings the registers; see the port's `profile`.",
    },
    ...ownReadings,
    ...modbusDevice,
  },
} as const;

const modbus = {
  type: "object",
  description: "Modbus RTU: the servers on this bus, polled one at a time.",
  additionalProperties: false,
  required: ["servers"],
  properties: {
    every: duration("10s", "How often a server is polled.", some),
    timeout: duration("500ms", "How long a server may take to answer a request.", atMostAMinute),
    retries: { ...retries, default: 1, description: "How often a request without a good answer is made again." },
    servers: {
      type: "array",
      minItems: 1,
      maxItems: 247,
      items: modbusServer,
      description: "The servers (slaves) on the bus.",
    },
  },
} as const;

const sdi12Value = {
  anyOf: [
    { type: "null" },
    { type: "string", minLength: 1, maxLength: 256 },
    {
      type: "object",
      additionalProperties: false,
      required: ["name"],
      properties: { name: meaning.name, scale: meaning.scale, offset: meaning.offset, none: meaning.none },
    },
  ],
} as const;

const sdi12Sensor = {
  type: "object",
  additionalProperties: false,
  required: ["address", "values"],
  properties: {
    address: {
      type: "string",
      pattern: "^[0-9A-Za-z]$",
      inWords: "one digit or letter",
      description: "The sensor's address, one digit or letter; quote it.",
    },
    measure: {
      type: "string",
      enum: SDI12_MEASUREMENTS,
      default: "M",
      description: "The command: M one at a time, C all sensors at the same time, MC and CC with a CRC.",
    },
    ...ownReadings,
    ...ownPace,
    values: {
      type: "array",
      minItems: 1,
      maxItems: 99,
      items: sdi12Value,
      description: "Its values in order: a name, { name, scale, offset, none }, or null for one that is not wanted.",
    },
  },
} as const;

const sdi12 = {
  type: "object",
  description: "SDI-12 behind a transparent serial adapter: the sensors on this bus, measured one at a time.",
  additionalProperties: false,
  required: ["sensors"],
  properties: {
    every: duration("60s", "How often a sensor measures.", some),
    timeout: duration("1s", "How long a sensor may take to answer a command.", atMostAMinute),
    retries: { ...retries, default: 2, description: "How often a command without a good answer is sent again." },
    sensors: {
      type: "array",
      minItems: 1,
      maxItems: 128,
      items: sdi12Sensor,
      description: "The sensors on the bus.",
    },
  },
} as const;

const command = {
  type: "object",
  additionalProperties: false,
  properties: {
    send: hex("The command's bytes in hexadecimal, such as 'ff 01 86'; or `text`."),
    text: {
      type: "string",
      minLength: 1,
      maxLength: 256,
      description: 'The command as text; in double quotes "\\r" is a carriage return.',
    },
  },
} as const;

const poll = {
  type: "object",
  description: "A device that speaks when it is asked: declared commands, answered in the port's framing and codec.",
  additionalProperties: false,
  required: ["requests"],
  properties: {
    every: duration("10s", "How often the requests are made.", some),
    timeout: duration("1s", "How long it may take until the device has answered.", atMostAMinute),
    retries: { ...retries, default: 1, description: "How often a request without a good answer is made again." },
    framed: {
      type: "boolean",
      default: false,
      description:
        "false: commands are sent as they stand. true: in the port's framing, with its line end, escapes, length and checksum.",
    },
    start: {
      type: "array",
      maxItems: 16,
      items: command,
      default: [],
      description:
        "Commands for when the port was opened, such as one to begin measuring; their answers are no readings.",
    },
    requests: {
      type: "array",
      minItems: 1,
      maxItems: 16,
      items: command,
      description: "Each is answered by one frame, which is one reading.",
    },
  },
} as const;

/** Of a device profile: the one server that it describes. */
export const profileServer = {
  type: "object",
  description: "Of a Modbus device: its registers, and what else `modbus.servers` may say of it.",
  additionalProperties: false,
  required: ["registers"],
  properties: {
    address: { ...address, default: 1, description: "The address that it has when it is new." },
    ...modbusDevice,
  },
} as const;

/** How the devices on a port are asked. */
export const serialPolling = { modbus, sdi12, poll } as const;
