/** What the parts of the program report to the audit trail: who did what to whom, as values. The trail itself is kept elsewhere. */

/** Every action that is kept, in the past tense, dotted; and what it says. */
export const AUDIT_ACTIONS = {
  "api.refused": "a call of the HTTP API was refused: no key, a wrong one, or one that may not",
  "block.set-aside": "a damaged block of readings was set aside",
  "certificate.issued": "a certificate was made, or made anew",
  "certificate.revoked": "a certificate was revoked",
  "config.changed": "the daemon started with another configuration: which keys, and whose file",
  "config.first-seen": "the daemon started with a configuration for the first time",
  "configuration.changed": "keys of the configuration, or files that it names, were taken over while running",
  "connection.refused": "TLS turned a client away",
  "dead-letter.dropped": "readings that fusion had refused were thrown away",
  "dead-letter.requeued": "readings that fusion had refused were sent again",
  "device.added": "a device got a password, or another one",
  "device.removed": "a device's password was removed",
  "eviction.began": "the outbox began to give up readings for want of room",
  "eviction.ended": "it has room again: how many it gave up",
  "file.set-aside": "a damaged outbox was set aside and salvaged",
  "key.created": "an API key was made",
  "key.revoked": "an API key was revoked",
  "login.refused": "a device was refused: unknown, wrong password, or not under that name",
  "outbox.backed-up": "the outbox was copied",
  "outbox.restored": "a copy was put in the outbox's place",
  "replay.ended": "a replay came to its end",
  "replay.started": "delivered readings of a range were asked for again",
  "replay.stopped": "a replay was ended before its end",
  "session.ended": "a device was cut off because its certificate had been revoked",
  "trail.lost": "entries could not be written: how many",
  "trail.pruned": "the trail's oldest entries went for want of room",
  "trail.resumed": "the trail went on behind an end that was damaged or not finished",
} as const;

export type AuditAction = keyof typeof AUDIT_ACTIONS;

/** One thing worth keeping; never a secret, never a payload. */
export interface AuditEvent {
  readonly action: AuditAction;
  /** Who, as far as that was verified: `device:mast-3`, `key:ops`, `cli:root`, `gateway`; else `address:192.0.2.7`. */
  readonly actor: string;
  /** To whom or what: a client id, a serial number, a reading's id. */
  readonly subject?: string;
  /** What else explains it; short values. */
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}

/** Keeps one event. Never throws: a trail that cannot be written is a condition in health, not a fault of the caller. */
export type Audit = (event: AuditEvent) => void;
