/** The part of the configuration's schema that says who may do what on the broker. */
import { file } from "./schema-terms.ts";

export const passwordFile = file(
  "Passwords of devices, written by `summit-edge devices add`. Taken over when it changes.",
  "/etc/summit-edge/passwords",
);

export const aclFile = file(
  "Access rules in mosquitto's syntax: what no rule allows is denied. Taken over when it changes.",
  "/etc/summit-edge/acl",
);

const source = {
  type: "object",
  additionalProperties: false,
  required: ["user", "names"],
  properties: {
    user: {
      type: "string",
      pattern: "^[A-Za-z0-9_-]{1,64}$",
      inWords: "1 to 64 letters, digits, _ or -",
      description: "Name of a device: its user name, or its certificate's name.",
    },
    names: {
      type: "array",
      minItems: 1,
      maxItems: 1024,
      items: { type: "string", minLength: 1, maxLength: 256 },
      description: "Sources that it may speak for; * stands for any characters.",
    },
  },
} as const;

export const sources = {
  type: "array",
  maxItems: 1024,
  items: source,
  default: [],
  description:
    "Which devices speak for others as well; a device with a password or certificate speaks only for itself.",
  examples: [{ user: "concentrator-7", names: ["tank-*", "mast-3"] }],
} as const;
