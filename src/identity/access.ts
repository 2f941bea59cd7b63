/**
 * Who may do what on the broker: one pure decision, asked at every connect, publish (wills included), subscribe, and again
 * before a message is forwarded. Passwords and access lists will decide here too.
 */

/** What is known of a client. */
export interface ClientIdentity {
  readonly clientId: string;
  /** As the client says; nothing has verified it. */
  readonly username: string | undefined;
  /** The subject's common name of a certificate that TLS has verified. */
  readonly certificateName: string | undefined;
  /** Whether the connection comes from this machine. */
  readonly loopback: boolean;
}

export interface AccessPolicy {
  /** From where clients without credentials are let in. */
  readonly anonymous: "never" | "loopback" | "always";
}

export interface AccessRequest {
  /** `will`: leave a will on `topic`; `receive`: have a message on `topic` forwarded. */
  readonly action: "connect" | "publish" | "will" | "subscribe" | "receive";
  readonly identity: ClientIdentity;
  /** Topic name; for `subscribe` the topic filter; not for `connect`. */
  readonly topic?: string;
}

export type AccessDecision =
  | { readonly allowed: true }
  /** `badCredentials`: what the client showed was not good enough, rather than that it may not. */
  | { readonly allowed: false; readonly reason: string; readonly badCredentials: boolean };

/** Longest client id, in UTF-16 code units: it is the source of readings that name none. */
export const MAX_CLIENT_ID_LENGTH = 256;
/** An identity that goes into access rules must not bring wildcards or levels with it. */
const CERTIFICATE_NAME = /^[A-Za-z0-9_-]{1,64}$/;

const ALLOWED: AccessDecision = { allowed: true };
const RESERVED = denied("topics that begin with $ are the broker's own");

/** Decides one request. */
export function decide(request: AccessRequest, policy: AccessPolicy): AccessDecision {
  if (request.action === "connect") return decideConnect(request.identity, policy);
  return request.topic?.charCodeAt(0) === 0x24 ? RESERVED : ALLOWED;
}

function decideConnect(identity: ClientIdentity, policy: AccessPolicy): AccessDecision {
  const { certificateName, clientId, username } = identity;
  if (clientId.length > MAX_CLIENT_ID_LENGTH) return denied(`a client id longer than ${MAX_CLIENT_ID_LENGTH}`);
  if (certificateName !== undefined) {
    if (!CERTIFICATE_NAME.test(certificateName)) return denied("the certificate's name is not [A-Za-z0-9_-]{1,64}");
    return clientId === certificateName ? ALLOWED : denied("the client id is not the certificate's name");
  }
  if (policy.anonymous === "always" || (policy.anonymous === "loopback" && identity.loopback)) return ALLOWED;
  if (username !== undefined) return denied("credentials that nothing here can verify", true);
  return denied(
    policy.anonymous === "never"
      ? "no credentials, and mqtt.anonymous lets nobody in without"
      : "no credentials, and mqtt.anonymous lets only this machine in without",
  );
}

function denied(reason: string, badCredentials = false): AccessDecision {
  return { allowed: false, reason, badCredentials };
}

/** Whether an address that a socket reports is this machine's own (127.0.0.0/8, ::1, and the former mapped to IPv6). */
export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false;
  return address === "::1" || /^(::ffff:)?127\.\d+\.\d+\.\d+$/i.test(address);
}
