/**
 * One entry of the audit trail as a line of text. Pure.
 *
 * The line is JSON whose last member is `hash`: SHA-256, in hex, of the line's bytes before `,"hash"`. Among them is `prev`,
 * the hash of the entry before, so that nothing in the middle can be changed, taken out or moved without the rest showing it.
 * The bytes are hashed as they lie in the file: there is no canonical form that two programs could see differently.
 */
import { createHash } from "node:crypto";
import type { AuditEvent } from "../../kernel/audit.ts";

/** What the trail knows of an event's moment. Wall time may be wrong: boot and uptime give the order, and what is needed to put it right. */
export interface Stamp {
  /** RFC 3339. */
  readonly at: string;
  readonly boot: string;
  /** Monotonic, since the boot. */
  readonly uptime_ms: number;
  /** `synchronised`, `unsynchronised` or `stepped`. */
  readonly clock: string;
}

/** A link of the chain: what the next entry goes on from. */
export interface Link {
  readonly seq: number;
  readonly hash: string;
}

export interface AuditEntry extends Stamp, Omit<AuditEvent, "action">, Link {
  /** Another version of the program may have other ones. */
  readonly action: string;
  readonly prev: string;
}

/** What the first entry of all goes on from. */
export const GENESIS: Link = { seq: 0, hash: "0".repeat(64) };

/** Entries that the trail makes of itself. */
export const RESUMED = "trail.resumed";
export const PRUNED = "trail.pruned";

const MAX_NAME = 256;
const MAX_VALUE = 2048;
const MAX_VALUES = 16;

export const digestOf = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");

/** The line of an event, without its line feed, and the link that it makes. Text that is too long is cut. */
export function lineOf(event: AuditEvent, stamp: Stamp, seq: number, prev: string): { line: string; link: Link } {
  const { actor, action, subject, detail } = bounded(event);
  const { at, boot, uptime_ms, clock } = stamp;
  const body = JSON.stringify({ seq, at, boot, uptime_ms, clock, actor, action, subject, detail, prev }).slice(0, -1);
  const hash = digestOf(body);
  return { line: `${body},"hash":"${hash}"}`, link: { seq, hash } };
}

/** Whoever is refused chooses its own name: nobody fills a line with it. */
function bounded({ action, actor, subject, detail }: AuditEvent): AuditEvent {
  const values = Object.entries(detail ?? {}).slice(0, MAX_VALUES);
  return {
    action,
    actor: cut(actor, MAX_NAME),
    ...(subject !== undefined && { subject: cut(subject, MAX_NAME) }),
    ...(detail !== undefined && {
      detail: Object.fromEntries(
        values.map(([name, value]) => [name, typeof value === "string" ? cut(value, MAX_VALUE) : value]),
      ),
    }),
  };
}

const cut = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** What a line turns out to be: an entry, whole or with a hash that is not its own, or nothing that can be read. */
export type ReadLine = { readonly entry: AuditEntry; readonly whole: boolean } | undefined;

const HASH = /^,"hash":"([0-9a-f]{64})"\}$/;
const HASH_LENGTH = ',"hash":""}'.length + 64;

/** Reads a line's bytes, without its line feed. */
export function readLine(bytes: Buffer): ReadLine {
  const at = bytes.length - HASH_LENGTH;
  const hash = at < 0 ? undefined : HASH.exec(bytes.toString("latin1", at))?.[1];
  const entry = hash === undefined ? undefined : parsed(bytes);
  if (entry === undefined) return undefined;
  return { entry, whole: digestOf(bytes.subarray(0, at)) === hash };
}

function parsed(bytes: Buffer): AuditEntry | undefined {
  try {
    const value = JSON.parse(bytes.toString("utf8")) as Partial<AuditEntry> | null;
    return Number.isSafeInteger(value?.seq) && [value?.prev, value?.hash, value?.action, value?.at].every(isText)
      ? (value as AuditEntry)
      : undefined;
  } catch {
    return undefined;
  }
}

const isText = (value: unknown): boolean => typeof value === "string";
