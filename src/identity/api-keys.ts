/**
 * The keys of the HTTP API: `se_ID_SECRET`. The prefix and the id tell whoever finds a leaked one what it is and which to
 * revoke; the secret is 256 random bits, of which only a SHA-256 is kept (decision 0018 says why no slow hash).
 *
 * Each key is a file of its own in `dataDir/api-keys`, made whole or not at all and removed to revoke it. Nothing is read,
 * changed and written back, so two commands at once cannot lose one another's work; nothing is cached, so a key that was
 * revoked is refused from the next call on. No file ever holds a key, and no call but `create` ever returns one.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";

/** What a key lets its bearer do; each includes those before it. */
export const SCOPES = ["read", "write", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

/** A key as it may be shown. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly scope: Scope;
  /** Wall time, milliseconds. */
  readonly createdAt: number;
  /** Wall time, milliseconds; without it the key does not expire. */
  readonly expiresAt?: number;
}

export type KeyVerdict =
  | { readonly kind: "valid"; readonly key: ApiKey }
  | { readonly kind: "expired"; readonly key: ApiKey }
  /**
   * It never was one, was revoked, or its file cannot be read: whoever shows it is not told which. `id` is what it says of
   * itself, for the log.
   */
  | { readonly kind: "unknown"; readonly id?: string; readonly fault?: GatewayError };

/** The most keys there may be: each is somebody to look after. */
export const MAX_KEYS = 256;
/** As a user name: it stands in logs and in the audit trail. */
export const KEY_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const KEY = /^se_[0-9a-f]{8}_[0-9a-f]{64}$/;
const SHOWS_ID = /^se_([0-9a-f]{8})_/;

/** The id in what a person has of a key, the key itself included; else the text as it is. Never more of a key than that. */
export const shownId = (text: string): string => /^se_([0-9a-f]{8})(?:_|$)/.exec(text)?.[1] ?? text;
const FOLDER = "api-keys";

/** A file's content. */
interface Stored extends ApiKey {
  /** Of the whole key, in hexadecimal. */
  readonly sha256: string;
}

export class ApiKeys {
  readonly #dataDir: string;
  readonly #folder: string;
  readonly #clock: Pick<Clock, "now">;

  constructor(dataDir: string, clock: Pick<Clock, "now">) {
    this.#dataDir = dataDir;
    this.#folder = join(dataDir, FOLDER);
    this.#clock = clock;
  }

  /**
   * Makes a key; one without a name is called by its id. Its text is returned here and never again.
   * @throws GatewayError KEY_NAME_TAKEN, TOO_MANY_KEYS, KEYS_UNUSABLE
   */
  async create({
    name: given,
    ...wanted
  }: Pick<ApiKey, "scope" | "expiresAt"> & { readonly name?: string }): Promise<{ key: ApiKey; text: string }> {
    const known = await this.list();
    const id = randomBytes(4).toString("hex");
    const name = given ?? id;
    if (known.some((key) => key.name === name)) throw nameTaken(name);
    if (known.length >= MAX_KEYS) throw tooMany();
    const text = `se_${id}_${randomBytes(32).toString("hex")}`;
    const key: ApiKey = { id, name, createdAt: this.#clock.now(), ...wanted };
    const stored: Stored = { ...key, sha256: digestOf(text).toString("hex") };
    try {
      await this.#write(id, `${JSON.stringify(stored)}\n`);
    } catch (error) {
      throw unusable(this.#folder, error);
    }
    return { key, text };
  }

  /** Every key, oldest first. @throws GatewayError KEYS_UNUSABLE */
  async list(): Promise<readonly ApiKey[]> {
    const keys: ApiKey[] = [];
    for (const id of await this.#ids()) {
      const stored = await this.#read(id);
      // One that was revoked meanwhile is no longer there.
      if (stored !== undefined) keys.push(shown(stored));
    }
    return keys.sort((a, b) => a.createdAt - b.createdAt);
  }

  /** Removes the key of that id or name; `undefined` where there is none. @throws GatewayError KEYS_UNUSABLE */
  async revoke(idOrName: string): Promise<ApiKey | undefined> {
    const wanted = shownId(idOrName);
    const found = (await this.list()).find(({ id, name }) => id === wanted || name === idOrName);
    if (found === undefined) return undefined;
    try {
      await rm(this.#fileOf(found.id), { force: true });
      await syncFolder(this.#folder);
    } catch (error) {
      throw unusable(this.#folder, error);
    }
    return found;
  }

  /** What the text that a caller shows is worth. Never throws: what cannot be read lets nobody in. */
  async check(text: string): Promise<KeyVerdict> {
    const id = SHOWS_ID.exec(text)?.[1];
    if (id === undefined) return { kind: "unknown" };
    if (!KEY.test(text)) return { kind: "unknown", id };
    let stored: Stored | undefined;
    try {
      stored = await this.#read(id);
    } catch (fault) {
      if (fault instanceof GatewayError) return { kind: "unknown", id, fault };
      throw fault;
    }
    if (stored === undefined || !timingSafeEqual(digestOf(text), Buffer.from(stored.sha256, "hex")))
      return { kind: "unknown", id };
    // A date of the calendar, as a certificate's.
    const now = this.#clock.now();
    const expired = stored.expiresAt !== undefined && stored.expiresAt <= now;
    return { kind: expired ? "expired" : "valid", key: shown(stored) };
  }

  #fileOf(id: string): string {
    return join(this.#folder, `${id}.json`);
  }

  async #ids(): Promise<string[]> {
    try {
      const names = await readdir(this.#folder);
      return names.flatMap((name) => /^([0-9a-f]{8})\.json$/.exec(name)?.[1] ?? []);
    } catch (error) {
      if (codeOf(error) === "ENOENT") return [];
      throw unusable(this.#folder, error);
    }
  }

  async #read(id: string): Promise<Stored | undefined> {
    const path = this.#fileOf(id);
    try {
      const stored: unknown = JSON.parse(await readFile(path, "utf8"));
      if (isStored(stored) && stored.id === id) return stored;
    } catch (error) {
      if (codeOf(error) === "ENOENT") return undefined;
      if (!(error instanceof SyntaxError)) throw unusable(path, error);
    }
    throw unusable(path, new Error("it does not hold a key"));
  }

  /** The folder and the file belong to whom `dataDir` belongs: root may make keys for a daemon that is somebody else. */
  async #write(id: string, content: string): Promise<void> {
    await mkdir(this.#dataDir, { recursive: true, mode: 0o750 });
    const { uid, gid } = await stat(this.#dataDir);
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const partial = `${this.#fileOf(id)}.partial`;
    await withFile(this.#folder, "r", (folder) => own(folder, uid, gid));
    await withFile(partial, "wx", async (file) => {
      await own(file, uid, gid);
      await file.writeFile(content);
      await file.sync();
    });
    await rename(partial, this.#fileOf(id));
    await syncFolder(this.#folder);
  }
}

async function withFile(path: string, flags: string, use: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, flags, 0o600);
  try {
    await use(file);
  } finally {
    await file.close();
  }
}

async function own(file: FileHandle, uid: number, gid: number): Promise<void> {
  const now = await file.stat();
  if (now.uid !== uid || now.gid !== gid) await file.chown(uid, gid);
}

const syncFolder = (folder: string): Promise<void> => withFile(folder, "r", (file) => file.sync());

const digestOf = (text: string): Buffer => createHash("sha256").update(text).digest();

const shown = ({ sha256: _sha256, ...key }: Stored): ApiKey => key;

function isStored(value: unknown): value is Stored {
  const { id, name, scope, createdAt, expiresAt, sha256 } = (value ?? {}) as Partial<Record<keyof Stored, unknown>>;
  return (
    typeof id === "string" &&
    typeof name === "string" &&
    (SCOPES as readonly unknown[]).includes(scope) &&
    Number.isFinite(createdAt) &&
    (expiresAt === undefined || Number.isFinite(expiresAt)) &&
    typeof sha256 === "string" &&
    /^[0-9a-f]{64}$/.test(sha256)
  );
}

function nameTaken(name: string): GatewayError {
  return new GatewayError({
    code: "KEY_NAME_TAKEN",
    op: "keys.create",
    message: `there is a key called ${name} already`,
    hint: `Choose another name, or revoke that one first: summit-edge keys revoke ${name}`,
  });
}

function tooMany(): GatewayError {
  return new GatewayError({
    code: "TOO_MANY_KEYS",
    op: "keys.create",
    message: `there are ${MAX_KEYS} keys, the most there may be`,
    hint: "Revoke those that nobody uses: summit-edge keys list shows them.",
  });
}

function unusable(path: string, fault: unknown): GatewayError {
  return new GatewayError({
    code: "KEYS_UNUSABLE",
    op: "keys.open",
    message: `${path} cannot be used: ${messageOf(fault)}`,
    hint: "Run the command as root or as the daemon's user, and look whether gateway.dataDir is there; a broken key's file can be removed, which revokes it.",
    cause: fault,
  });
}
