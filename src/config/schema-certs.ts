/** The `certs` section of the configuration's schema. */
import { duration, file } from "./schema-terms.ts";

/** A certificate's dates are whole seconds. */
const lifetime = { atLeast: "1s" } as const;

export const certs = {
  type: "object",
  description: "The site's own certificate authority: what `summit-edge certs` makes.",
  additionalProperties: false,
  default: {},
  properties: {
    folder: {
      type: "string",
      minLength: 1,
      default: "certs",
      description: "Where the authority and what it issues are kept, relative to dataDir.",
    },
    passphraseFile: file(
      "File with the passphrase of the authority's key, where it was made with one.",
      "/etc/summit-edge/secrets/ca-passphrase",
    ),
    caLifetime: duration("3650d", "How long the authority's own certificate is valid.", lifetime),
    serverLifetime: duration("365d", "How long the gateway's certificate is valid.", lifetime),
    deviceLifetime: duration(
      "730d",
      "How long a device's certificate is valid; somebody has to carry the next one there.",
      lifetime,
    ),
    backdate: duration(
      "30d",
      "How long before its making a certificate is valid already, for clocks that are behind; a tenth of its lifetime at most.",
    ),
  },
} as const;
