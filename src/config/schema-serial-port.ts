/** The part of a serial port's schema that says which device it is, how its line is driven, and when its conduct is odd. */
import { duration, size } from "./schema-terms.ts";

const usbId = (description: string) =>
  ({
    type: "string",
    pattern: "^[0-9A-Fa-f]{4}$",
    inWords: "four hexadecimal digits",
    description,
    examples: ["0403"],
  }) as const;

const match = {
  type: "object",
  description:
    "The USB adapter by what it says of itself, instead of `path`; exactly one that is plugged in must fit. `summit-edge` looks anew at each opening.",
  additionalProperties: false,
  minProperties: 1,
  properties: {
    vendorId: usbId("USB vendor, four hexadecimal digits as in lsusb; quote it."),
    productId: usbId("USB product, four hexadecimal digits as in lsusb; quote it."),
    serialNumber: { type: "string", minLength: 1, maxLength: 255, description: "The adapter's serial number." },
    interface: {
      type: "integer",
      minimum: 0,
      maximum: 255,
      description: "Number of the USB interface, for an adapter with several ports.",
    },
  },
} as const;

const maxRate = {
  type: "object",
  description:
    "What babbles more than this is slowed down by not being read; what the line's buffer cannot hold is lost.",
  additionalProperties: false,
  default: {},
  properties: {
    frames: {
      type: "integer",
      minimum: 0,
      maximum: 1000000,
      default: 5000,
      description: "Frames per second; 0: no limit.",
    },
    bytes: size("512KiB", "Bytes per second; 0B: no limit.", { atMost: "1GiB" }),
  },
} as const;

export const serialDevice = {
  path: {
    type: "string",
    minLength: 1,
    description:
      "Device file; prefer /dev/serial/by-id/… or by-path. tcp://host:port: an adapter on the network, raw bytes.",
  },
  match,
} as const;

export const serialLine = {
  flowControl: {
    type: "string",
    enum: ["none", "rtscts", "xonxoff"],
    default: "none",
    description: "Flow control. xonxoff takes the bytes 0x11 and 0x13 for itself: never for a binary protocol.",
  },
  dtr: {
    type: "boolean",
    default: true,
    description:
      "State of the DTR line while the port is open: off for a board that it resets, on for a level converter that it feeds.",
  },
  rts: {
    type: "boolean",
    default: true,
    description: "State of the RTS line while the port is open; with flowControl rtscts the driver moves it.",
  },
  silentAfter: duration(
    "0s",
    "Without a frame for this long the port is reported as silent: longer than the device's longest pause; 0s: never. Polled devices are named each by itself; for them it serves `reopenWhenSilent` alone.",
  ),
  reopenWhenSilent: {
    type: "boolean",
    default: false,
    description: "Closes a silent port and opens it again, once for each silence.",
  },
  maxRate,
} as const;
