/**
 * Who may do what on the broker: one pure decision, asked at every connect, publish (wills included), subscribe, for every
 * reading's source, again before a message is forwarded, and for who is in already when the files have changed.
 *
 * A client has a name where a certificate or the password file has verified it; without one it is anonymous, whatever it
 * says. A name speaks for itself; for others where `mqtt.sources` says so, or where the access rules let it publish to a
 * topic that names them.
 */
import { type Acl, IDENTITY_NAME, IDENTITY_NAME_RULE } from "./acl.ts";

/** What is known of a client. */
export interface ClientIdentity {
  readonly clientId: string;
  /** Whether the client said it: else the broker made it up (MQTT 3.1.1, 3.1.3.1). */
  readonly clientIdGiven: boolean;
  /** As the client says. */
  readonly username: string | undefined;
  /** The password file's entry for that user name which the client's password fits; `undefined` where none was verified. */
  readonly credential: string | undefined;
  /** The subject's common name of a certificate that TLS has verified. */
  readonly certificateName: string | undefined;
  /** The verified name: the certificate's, else the user's; `undefined` for an anonymous client. */
  readonly name: string | undefined;
  /** Whether the connection comes from this machine. */
  readonly loopback: boolean;
}

export interface AccessPolicy {
  /** From where clients without credentials are let in. */
  readonly anonymous: "never" | "loopback" | "always";
  /** The password file: entries by user name. Without it no user name means anything. */
  readonly users?: ReadonlyMap<string, string> | undefined;
  /** The access rules. Without them a name may use every topic but those that name another source. */
  readonly acl?: Acl | undefined;
  /** The other sources that a name may speak for. */
  readonly sources?: ReadonlyMap<string, RegExp> | undefined;
}

/** Who holds the session of a client id. */
export interface SessionHolder {
  readonly name: string | undefined;
  readonly connected: boolean;
}

export type AccessRequest =
  | { readonly action: "connect"; readonly identity: ClientIdentity; readonly holder?: SessionHolder | undefined }
  /** The policy is another one: stay connected; `keep`: have a session kept, present or away. */
  | { readonly action: "stay" | "keep"; readonly identity: ClientIdentity }
  /** `will`: leave a will. `source`: what the topic's route takes for a reading's source, where it names one. */
  | {
      readonly action: "publish" | "will";
      readonly identity: ClientIdentity;
      readonly topic: string;
      readonly source?: string | undefined;
    }
  /** `topic` is a topic filter. */
  | { readonly action: "subscribe"; readonly identity: ClientIdentity; readonly topic: string }
  /** Have a message forwarded, a retained one included. */
  | { readonly action: "receive"; readonly identity: ClientIdentity; readonly topic: string }
  /** Bring a reading of this source. `topicSource`: the source that its topic names, which the client may publish to. */
  | {
      readonly action: "speak";
      readonly identity: ClientIdentity;
      readonly source: string;
      readonly topicSource?: string | undefined;
    };

export type AccessDecision =
  | { readonly allowed: true }
  /** `because` of what the client showed, of its client id, or because it has no right to it. */
  | { readonly allowed: false; readonly reason: string; readonly because: "credentials" | "client-id" | "rights" };

/** Longest client id, in UTF-16 code units: it is the source of readings that name none. */
export const MAX_CLIENT_ID_LENGTH = 256;

const ALLOWED: AccessDecision = { allowed: true };
const RESERVED = denied("topics that begin with $ are the broker's own");
const NOT_GRANTED = denied("mqtt.aclFile does not allow it");

/** Decides one request. */
export function decide(request: AccessRequest, policy: AccessPolicy): AccessDecision {
  switch (request.action) {
    case "connect":
      return decideConnect(request.identity, request.holder, policy);
    case "stay":
      return decideStay(request.identity, policy);
    case "keep":
      return decideKeep(request.identity, policy);
    case "speak":
      return decideSpeak(request, policy);
    default:
      return decideTopic(request, policy);
  }
}

/** The source of a reading that neither its payload nor its topic names: the client id, where the client may speak for it. */
export function ownSource(identity: ClientIdentity, policy: AccessPolicy): string {
  const { clientId, name } = identity;
  return name === undefined || speaksFor(name, clientId, policy) ? clientId : name;
}

function decideConnect(
  identity: ClientIdentity,
  holder: SessionHolder | undefined,
  policy: AccessPolicy,
): AccessDecision {
  const { clientId, name } = identity;
  if (clientId.length > MAX_CLIENT_ID_LENGTH) return denied(`a client id longer than ${MAX_CLIENT_ID_LENGTH}`);
  const known = decideIdentity(identity, policy);
  if (!known.allowed) return known;
  // Whoever took a device's client id would keep the device out, and pass for it where a rule says %c.
  if (name !== clientId && policy.users?.has(clientId))
    return denied("the client id is another user's name", "client-id");
  if (policy.acl?.rejects(clientId)) {
    return denied("the client id holds +, # or /, and mqtt.aclFile has patterns with %c", "client-id");
  }
  return decideHolder(identity, holder);
}

function decideIdentity(identity: ClientIdentity, policy: AccessPolicy): AccessDecision {
  const { certificateName, clientId, clientIdGiven, username, credential } = identity;
  if (certificateName !== undefined) {
    if (!IDENTITY_NAME.test(certificateName)) return denied(`the certificate's name is not ${IDENTITY_NAME_RULE}`);
    const wrong = clientIdGiven
      ? "the client id is not the certificate's name"
      : `it gave no client id: it must be ${certificateName}, the certificate's name (mosquitto_pub -i ${certificateName})`;
    return clientId === certificateName ? ALLOWED : denied(wrong);
  }
  if (username !== undefined && policy.users !== undefined) {
    return credential === undefined
      ? denied("unknown user or wrong password", "credentials")
      : decideStay(identity, policy);
  }
  if (policy.anonymous === "always" || (policy.anonymous === "loopback" && identity.loopback)) return ALLOWED;
  if (username !== undefined) return denied("credentials that nothing here can verify", "credentials");
  return denied(
    policy.anonymous === "never"
      ? "no credentials, and mqtt.anonymous lets nobody in without"
      : "no credentials, and mqtt.anonymous lets only this machine in without",
  );
}

/**
 * A client id belongs to whoever holds its session, until the session ends. Two may take it all the same, and begin afresh:
 * the one whose name it is, and a verified client in the place of an anonymous one that is away.
 */
function decideHolder({ name, clientId }: ClientIdentity, holder: SessionHolder | undefined): AccessDecision {
  if (holder === undefined || holder.name === name || name === clientId) return ALLOWED;
  if (name !== undefined && holder.name === undefined && !holder.connected) return ALLOWED;
  const whose = holder.name === undefined ? "an anonymous client" : `the user ${holder.name}`;
  return denied(`the client id has a session of ${whose}`, "client-id");
}

/** The entry that let a user in must still be there: it is gone with the user, and with a changed password. */
function decideStay({ username, credential }: ClientIdentity, { users }: AccessPolicy): AccessDecision {
  if (credential === undefined || users?.get(username ?? "") === credential) return ALLOWED;
  return denied("the user was removed, or has another password", "credentials");
}

/** A session outlives the password that it was begun with, but not its user. */
function decideKeep({ username, credential }: ClientIdentity, { users }: AccessPolicy): AccessDecision {
  if (credential === undefined || users?.has(username ?? "") === true) return ALLOWED;
  return denied("the user was removed", "credentials");
}

function decideTopic(
  request: Extract<AccessRequest, { readonly topic: string }>,
  policy: AccessPolicy,
): AccessDecision {
  const { action, identity, topic } = request;
  if (topic.charCodeAt(0) === 0x24) return RESERVED;
  const present = decideStay(identity, policy);
  if (!present.allowed) return present;
  const { acl } = policy;
  if (action === "subscribe") return acl === undefined || acl.maySubscribe(identity, topic) ? ALLOWED : NOT_GRANTED;
  if (action === "receive") return acl === undefined || acl.mayReceive(identity, topic) ? ALLOWED : NOT_GRANTED;
  if (acl !== undefined) {
    if (acl.mayPublish(identity, topic)) return ALLOWED;
    return denied(`mqtt.aclFile does not let ${identity.name ?? "a client without a name"} publish there`);
  }
  return request.source === undefined ? ALLOWED : decideSpeak({ identity, source: request.source }, policy);
}

function decideSpeak(
  {
    identity: { name },
    source,
    topicSource,
  }: { identity: ClientIdentity; source: string; topicSource?: string | undefined },
  policy: AccessPolicy,
): AccessDecision {
  if (name === undefined || speaksFor(name, source, policy)) return ALLOWED;
  // The rules were written topic by topic, and let it publish to this one.
  if (policy.acl !== undefined && source === topicSource) return ALLOWED;
  return denied(`${name} may not speak for ${source}; where it should, name it in mqtt.sources`);
}

function speaksFor(name: string, source: string, { sources }: AccessPolicy): boolean {
  return source === name || sources?.get(name)?.test(source) === true;
}

function denied(
  reason: string,
  because: Extract<AccessDecision, { allowed: false }>["because"] = "rights",
): AccessDecision {
  return { allowed: false, reason, because };
}

/** Whether an address that a socket reports is this machine's own (127.0.0.0/8, ::1, and the former mapped to IPv6). */
export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false;
  return address === "::1" || /^(::ffff:)?127\.\d+\.\d+\.\d+$/i.test(address);
}
