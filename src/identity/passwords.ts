/**
 * Passwords of devices: how they are kept, and how one is verified.
 *
 * The file has a line per user, `NAME:$scrypt$ln=14,r=8,p=1$SALT$HASH`: the PHC string format, base64 without padding, `ln`
 * the binary logarithm of scrypt's cost. Lines that begin with `#`, and empty ones, are left alone. A password itself is
 * nowhere in it.
 *
 * Verifying takes the same work whether the user is known or not. It is done on Node.js' thread pool, a few at a time
 * (`verification-turns.ts` says whose): the event loop goes on, and so do the pool's other users. There is no cache: it would keep
 * the passwords' equivalents in memory, to spare each device a twentieth of a second at its connect.
 */
import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from "node:crypto";
import { IDENTITY_NAME, IDENTITY_NAME_RULE } from "./acl.ts";
import { type Candidate, VerificationTurns } from "./verification-turns.ts";

/** Entries of a password file, `$scrypt$…`, by user name. */
export type PasswordEntries = ReadonlyMap<string, string>;

/** 16 MiB and, on a Raspberry Pi 4, some 0.15 s a password: 256 devices that come back together are in within half a minute. */
const COST = { ln: 14, r: 8, p: 1 } as const;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** A generated password: 144 bits, which no cost could make any harder to guess. */
const GENERATED_BYTES = 18;
/** What a line may ask for: an entry must not be able to use the machine up. */
const MAX_MEMORY = 128 * 1024 * 1024;
const MAX_PARALLEL = 16;
/** Longest password, in bytes of UTF-8; a CONNECT holds no more than 4 KiB. */
export const MAX_PASSWORD_BYTES = 1024;

interface Derivation {
  readonly ln: number;
  readonly r: number;
  readonly p: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

/** As scrypt of node:crypto, but for its callback. */
export type Derive = (password: Buffer, salt: Buffer, length: number, options: ScryptOptions) => Promise<Buffer>;

const scryptAsync: Derive = (password, salt, length, options) =>
  new Promise((resolve, reject) => {
    scrypt(password, salt, length, options, (error, hash) => (error === null ? resolve(hash) : reject(error)));
  });

/** An entry for a password, with a salt of its own. */
export async function entryFor(password: Buffer): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const hash = await scryptAsync(password, salt, HASH_BYTES, optionsOf(COST));
  return `$scrypt$ln=${COST.ln},r=${COST.r},p=${COST.p}$${unpadded(salt)}$${unpadded(hash)}`;
}

/** A password that nobody can guess, of letters, digits, `-` and `_`. */
export function generatePassword(): string {
  return randomBytes(GENERATED_BYTES).toString("base64url");
}

/** Something in the file that cannot be understood. */
export interface PasswordFault {
  /** From 1. */
  readonly line: number;
  readonly message: string;
}

/** Reads a file's text; where anything in it cannot be understood, all such lines. No message holds a part of an entry. */
export function parsePasswords(
  text: string,
): { readonly entries: PasswordEntries } | { readonly faults: readonly PasswordFault[] } {
  const entries = new Map<string, string>();
  const faults: PasswordFault[] = [];
  for (const [index, written] of text
    .replace(/^\ufeff/, "")
    .split("\n")
    .entries()) {
    const line = written.trim();
    if (line === "" || line.startsWith("#")) continue;
    const name = userOf(line);
    const message = faultOf(line, name, entries);
    if (message === undefined) entries.set(name, line.slice(name.length + 1));
    else faults.push({ line: index + 1, message });
  }
  return faults.length > 0 ? { faults } : { entries };
}

/** The user that a line is about; empty where it is about none. */
export function userOf(line: string): string {
  const text = line.trim();
  return text.startsWith("#") ? "" : text.slice(0, Math.max(0, text.indexOf(":")));
}

function faultOf(line: string, name: string, known: PasswordEntries): string | undefined {
  if (!IDENTITY_NAME.test(name)) return `must begin with a name of ${IDENTITY_NAME_RULE}, and a colon`;
  if (known.has(name)) return `the user ${name} has a line already`;
  const entry = line.slice(name.length + 1);
  if (/^\$[67]\$/.test(entry)) return `the password of ${name} was made by mosquitto_passwd: add the device again`;
  return derivationOf(entry) === undefined ? `what is behind ${name}: is no password that was made here` : undefined;
}

function derivationOf(entry: string): Derivation | undefined {
  const form = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$/;
  const [, ln, r, p, salt, hash] = form.exec(entry) ?? [];
  if (salt === undefined || hash === undefined) return undefined;
  const cost = { ln: Number(ln), r: Number(r), p: Number(p) };
  const fits = cost.ln >= 1 && cost.r >= 1 && cost.p >= 1 && cost.p <= MAX_PARALLEL && memoryOf(cost) <= MAX_MEMORY;
  return fits ? { ...cost, salt: Buffer.from(salt, "base64"), hash: Buffer.from(hash, "base64") } : undefined;
}

type Cost = Pick<Derivation, "ln" | "r" | "p">;

function memoryOf({ ln, r }: Pick<Cost, "ln" | "r">): number {
  return 128 * r * 2 ** ln;
}

function optionsOf({ ln, r, p }: Cost): ScryptOptions {
  return { N: 2 ** ln, r, p, maxmem: 2 * memoryOf({ ln, r }) + 1024 * 1024 };
}

const unpadded = (bytes: Buffer): string => bytes.toString("base64").replace(/=+$/, "");

/** A user name and a password that a client shows, and its place in the queue. */
export interface Attempt extends Candidate {
  readonly user: string;
  readonly password: Buffer;
  /** Told when its turn has come. */
  readonly begins?: (() => void) | undefined;
}

/** The entry that the password fits; `wrong`; `busy` where too many wait to be verified; `given-up` where its signal aborted. */
export type Verification = { readonly entry: string } | "wrong" | "busy" | "given-up";

/** Verifies passwords, a few at a time, the others when it is their address's turn. */
export class PasswordCheck {
  readonly #derive: Derive;
  readonly #turns = new VerificationTurns();

  /** `derive` is scrypt but in tests. */
  constructor(derive: Derive = scryptAsync) {
    this.#derive = derive;
  }

  /** Verifications that wait for their turn; never more than there are connections. */
  get waiting(): number {
    return this.#turns.waiting;
  }

  /** Whether an entry lets the user in with this password. Where the signal aborts, nothing is begun any more. */
  async verify(entries: PasswordEntries, attempt: Attempt): Promise<Verification> {
    const { user, password, address, begins } = attempt;
    const entry = entries.get(user);
    const kept = derivationOf(entry ?? "") ?? decoyLike(entries);
    if (password.length > MAX_PASSWORD_BYTES) return "wrong";
    const turn = await this.#turns.take(attempt);
    if (turn !== "mine") return turn === "refused" ? "busy" : turn;
    begins?.();
    let right: boolean | undefined;
    try {
      const hash = await this.#derive(password, kept.salt, kept.hash.length, optionsOf(kept));
      right = timingSafeEqual(hash, kept.hash) && entry !== undefined;
    } finally {
      this.#turns.done(address, right);
    }
    return right && entry !== undefined ? { entry } : "wrong";
  }
}

/** What an unknown user's password is held against: as dear as a known one's, and never right. */
function decoyLike(entries: PasswordEntries): Derivation {
  const [some] = entries.values();
  const like = derivationOf(some ?? "");
  return { ...(like ?? COST), salt: randomBytes(SALT_BYTES), hash: randomBytes(like?.hash.length ?? HASH_BYTES) };
}
