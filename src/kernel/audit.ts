/** What the parts of the program report to the audit trail: who did what to whom, as values. The trail itself is kept elsewhere. */

/** One thing worth keeping; never a secret, never a payload. */
export interface AuditEvent {
  /** In the past tense, dotted: `login.refused`, `certificate.issued`, `key.created`. */
  readonly action: string;
  /** Who, as far as that was verified: `device:mast-3`, `key:ops`, `cli:root`, `gateway`; else `address:192.0.2.7`. */
  readonly actor: string;
  /** To whom or what: a client id, a serial number, a reading's id. */
  readonly subject?: string;
  /** What else explains it; short values. */
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}

/** Keeps one event. Never throws: a trail that cannot be written is a condition in health, not a fault of the caller. */
export type Audit = (event: AuditEvent) => void;
