/** Why TLS turned a client away, in words that tell the operator what to do. Pure. */
import type { X509Certificate } from "node:crypto";
import { codeOf, messageOf } from "../kernel/errors.ts";

export interface TlsRefusal {
  /** Stable, kebab-case; one of a few dozen at most. */
  readonly kind: string;
  readonly reason: string;
}

type Validity = Pick<X509Certificate, "issuer" | "validFrom" | "validTo">;

export const NO_CERTIFICATE: TlsRefusal = {
  kind: "no-certificate",
  reason: "it showed no certificate, and this listener asks for one: give the device one of this site's authority",
};

export const REVOKED: TlsRefusal = {
  kind: "certificate-revoked",
  reason: "its certificate has been revoked: if the device may come back, issue a new one",
};

export const AUTHORITY_REVOKED: TlsRefusal = {
  kind: "certificate-of-revoked-authority",
  reason: "an authority of its certificate has been revoked: give the device one of an authority that is not",
};

export const NO_NAME: TlsRefusal = {
  kind: "certificate-without-name",
  reason: "its certificate has not exactly one common name: issue one whose common name is the client id",
};

/** OpenSSL's names for a chain that does not end at an authority of ours. */
const NOT_OURS: ReadonlySet<string> = new Set([
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
]);

/** What OpenSSL has against a client's certificate; `code` is its name for that, `now` wall time in milliseconds. */
export function certificateRefusal(code: string, certificate: Validity, now: number): TlsRefusal {
  const clock = `this gateway's clock says ${new Date(now).toISOString()}`;
  if (code === "CERT_HAS_EXPIRED") {
    const reason = `its certificate expired on ${certificate.validTo}, and ${clock}: renew it, or set the clock`;
    return { kind: "certificate-expired", reason };
  }
  if (code === "CERT_NOT_YET_VALID") {
    const reason = `its certificate begins on ${certificate.validFrom}, and ${clock}: one of the two clocks is wrong`;
    return { kind: "certificate-not-yet-valid", reason };
  }
  if (code === "INVALID_PURPOSE") {
    const reason = "its certificate is not one for clients (extended key usage): a server's cannot be used here";
    return { kind: "certificate-not-for-clients", reason };
  }
  if (NOT_OURS.has(code)) {
    const issuer = certificate.issuer.replaceAll("\n", ", ");
    const reason = `its certificate is of ${issuer}, none of the authorities in the listener's caFile (${code})`;
    return { kind: "certificate-of-another-authority", reason };
  }
  return { kind: "certificate-not-accepted", reason: `its certificate is not accepted: ${code}` };
}

/** OpenSSL's codes for handshakes that failed; what a client's alert says begins with `ERR_SSL_(TLS|SSL)V…_ALERT_`. */
const HANDSHAKES: readonly (readonly [RegExp, TlsRefusal])[] = [
  [
    /^ERR_TLS_HANDSHAKE_TIMEOUT$/,
    { kind: "handshake-timeout", reason: "it did not finish its TLS handshake within mqtt.limits.handshakeTimeout" },
  ],
  [
    /UNSUPPORTED_PROTOCOL|VERSION_TOO_LOW/,
    { kind: "tls-too-old", reason: "it speaks no TLS newer than 1.1, and this listener nothing older than 1.2" },
  ],
  [
    /WRONG_VERSION_NUMBER|HTTP_REQUEST|UNKNOWN_PROTOCOL|PACKET_LENGTH_TOO_LONG|BAD_RECORD_TYPE/,
    { kind: "not-tls", reason: "it does not speak TLS: is it a plain MQTT client at a TLS port?" },
  ],
  [
    /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|CERTIFICATE_EXPIRED|UNSUPPORTED_CERTIFICATE)/,
    {
      kind: "distrusts-us",
      reason:
        "it does not accept this gateway's certificate: does it know the authority, and does it ask for a name in it?",
    },
  ],
  [/NO_SHARED_CIPHER|HANDSHAKE_FAILURE/, { kind: "no-common-cipher", reason: "it has no cipher in common with us" }],
  [/^(ECONNRESET|EPIPE)$/, { kind: "hung-up", reason: "it hung up during the TLS handshake" }],
];

/** Why a handshake came to no end. */
export function handshakeRefusal(error: unknown): TlsRefusal {
  const code = codeOf(error) ?? "";
  const known = HANDSHAKES.find(([pattern]) => pattern.test(code));
  if (known === undefined)
    return { kind: "handshake-failed", reason: `its TLS handshake failed: ${code || messageOf(error)}` };
  const { kind, reason } = known[1];
  return { kind, reason: `${reason} (${code})` };
}
