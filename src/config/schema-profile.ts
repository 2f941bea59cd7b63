/** The schema of a device profile's file: what may stand on a port, and what says which device it is and how that is known. */
import type { FromSchema } from "json-schema-to-ts";
import type { Written } from "./schema.ts";
import { serialProfile } from "./schema-serial.ts";
import { profileServer } from "./schema-serial-poll.ts";

const text = (description: string) => ({ type: "string", minLength: 1, description }) as const;

const dataSheet = {
  type: "object",
  description: "Where all this stands.",
  additionalProperties: false,
  required: ["title"],
  properties: {
    title: text("Title."),
    edition: text("Edition or date."),
    section: text("Where in it the protocol is."),
    url: text("Where it can be had."),
  },
} as const;

const wiring = {
  type: "object",
  description: "How the device is connected.",
  additionalProperties: false,
  required: ["interface", "supply"],
  properties: {
    interface: text("The wires' kind and levels, such as UART 3.3 V, RS-232 or RS-485."),
    supply: text("What it is fed with."),
    pins: text("Which wire goes where."),
  },
} as const;

const vector = {
  type: "object",
  additionalProperties: false,
  required: ["origin", "reading"],
  properties: {
    origin: text(
      "From where the frame is: quoted from the data sheet, recorded from a device, or derived from its tables.",
    ),
    hex: text("What the device sends, as it is on the wire, in hexadecimal; or `text`."),
    text: text("The same as text, one character a byte; in double quotes it may have escapes such as \\r."),
    reading: { type: "object", description: "The reading that comes of it." },
    class: text("The reading's class, where it is not the profile's."),
  },
} as const;

const PROFILE_NAME = "1 to 64 lower-case letters, digits or -, the first no -";

export const profileSchema = {
  type: "object",
  additionalProperties: false,
  required: ["name", "title"],
  properties: {
    name: {
      type: "string",
      pattern: "^[a-z0-9][a-z0-9-]{0,63}$",
      inWords: PROFILE_NAME,
      description: "The profile's name; one that is shipped has it for its file's name.",
    },
    title: text("Maker, device, what it measures."),
    also: {
      type: "array",
      items: { type: "string", pattern: "^[a-z0-9][a-z0-9-]{0,63}$", inWords: PROFILE_NAME },
      default: [],
      description: "Other names that it goes by: devices that speak the same.",
    },
    dataSheet,
    wiring,
    notes: text("What one has to know before it works."),
    interval: {
      type: "string",
      format: "duration",
      default: "1s",
      atLeast: "10ms",
      description: "How often the device reports by itself; a simulated one does as well.",
    },
    ...serialProfile,
    server: profileServer,
    vectors: {
      type: "array",
      items: vector,
      default: [],
      description:
        "Frames, and what they have to give: a test of each profile, and what a simulated device speaks after.",
    },
  },
} as const;

/** A device profile as its file says it, every default filled in, durations in milliseconds and sizes in bytes. */
export type DeviceProfile = FromSchema<typeof profileSchema, Written>;
export type ProfileVector = DeviceProfile["vectors"][number];
