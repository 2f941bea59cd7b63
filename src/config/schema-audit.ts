/** The `audit` section of the configuration's schema. */
import { size } from "./schema-terms.ts";

export const audit = {
  type: "object",
  description: "The audit trail, in dataDir/audit: who did what.",
  additionalProperties: false,
  default: {},
  properties: {
    maxBytes: size("16MiB", "What it may take; beyond it the oldest eighth goes, with an entry that says so.", {
      atLeast: "64KiB",
      atMost: "1GiB",
    }),
  },
} as const;
