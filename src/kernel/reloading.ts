/**
 * Values made of files that may change while the daemon runs: certificates and keys, tokens, passwords, access rules.
 *
 * A change is noticed by looking at the files every `LOOK_EVERY_MS`, through symbolic links, so that renames into place,
 * swapped links (systemd, Kubernetes) and editors look alike; `reload` looks at once.
 *
 * Invariants: what is in force came from one successful load of files that did not change meanwhile. A file that is still
 * being written, or does not fit the others yet, is tried again before anybody is told; one that stays broken is a condition
 * in health, and what was in force stays. Files are read only when they have changed, or while they are broken.
 *
 * It does not know what is in the files, and nothing of what uses them.
 */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import type { Audit } from "./audit.ts";
import type { Clock } from "./clock.ts";
import type { Conditions } from "./conditions.ts";
import { codeOf, GatewayError, messageOf } from "./errors.ts";
import type { Logger } from "./telemetry.ts";

/** How often the files are looked at. */
export const LOOK_EVERY_MS = 2000;
/** A changed file is read once it has not changed for so long: whoever writes it may not be done. */
export const SETTLE_MS = 500;
/** How long files may be broken before health says so: a certificate and its key rarely come in one moment. */
export const GRACE_MS = 5000;
/** The largest file that is read. */
export const MAX_FILE_BYTES = 4 * 1024 * 1024;
/** Files that change while they are read are read again at once so often. */
const READ_ATTEMPTS = 3;

/** A file as it was read. */
export interface FileContent {
  readonly path: string;
  readonly content: Buffer;
  /** Its permission bits: 0o600. */
  readonly mode: number;
}

/** The files of one value, by the last part of their key in the configuration; `undefined` for one that is not configured. */
type Files = Readonly<Record<string, string | undefined>>;
export type Contents<F extends Files> = {
  readonly [K in keyof F]: undefined extends F[K] ? FileContent | undefined : FileContent;
};

/** The files that one value is made of, and how. */
export interface FileMaterial<T, F extends Files> {
  /** Where the files stand in the configuration: `mqtt`, `mqtt.listeners[0].tls`. With a file's own name it is its key. */
  readonly section: string;
  readonly files: F;
  /** Makes the value, and checks it. Throws what is wrong: a `GatewayError` whose hint says how to mend it. */
  readonly load: (files: Contents<F>) => T | Promise<T>;
}

/** One value that follows its files. */
export interface ReloadingSettings<T, F extends Files> extends FileMaterial<T, F> {
  /** Where health shows files that cannot be used; `code` is this value's own among those of the component. */
  readonly condition: { readonly component: string; readonly code: string };
  /** Puts a new value in place of the one before; where it throws, that one stays. Not called for the first. */
  readonly put?: (value: T, before: T) => void;
}

/** What became of a value when its files were looked at. */
export type ReloadOutcome =
  | { readonly kind: "unchanged" }
  /** `keys`: the files whose content is new, as the configuration names them. */
  | { readonly kind: "changed"; readonly keys: readonly string[] }
  | { readonly kind: "refused"; readonly section: string; readonly reason: string };

/** What `Reloads.reload` found in all files together. */
export interface ReloadReport {
  readonly changed: readonly string[];
  readonly refused: readonly { readonly section: string; readonly reason: string }[];
}

/** A value that follows its files. */
export interface Reloading<T> {
  /** What is in force. */
  readonly current: T;
  /** Reads the files now, without waiting for them to settle. */
  reload(): Promise<ReloadOutcome>;
  /** Looks at them no more; what is in force stays. */
  close(): void;
}

export interface ReloadsParts {
  readonly clock: Pick<Clock, "after" | "monotonic">;
  readonly conditions: Conditions;
  readonly log: Logger;
  readonly audit: Audit;
}

/** All values that follow their files. They are looked at one after another, on one timer. */
export class Reloads {
  readonly #parts: ReloadsParts;
  readonly #watched = new Set<Watched>();
  #cancel: (() => void) | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(parts: ReloadsParts) {
    this.#parts = parts;
  }

  /**
   * Loads a value for the first time, and follows its files from then on.
   * @throws GatewayError `FILE_UNREADABLE`, and whatever `load` throws: there is nothing yet that could stay in force.
   */
  async open<T, F extends Files>(settings: ReloadingSettings<T, F>): Promise<Reloading<T>> {
    const first = await readTogether(settings.section, settings.files);
    const value = await settings.load(first.contents);
    const files = new FollowedFiles(settings, value, first.source, this.#parts);
    if (Object.values(settings.files).some((path) => path !== undefined)) this.#watch(files);
    return {
      get current() {
        return files.current;
      },
      reload: () => this.#inTurn(() => files.reload()),
      close: () => void this.#watched.delete(files),
    };
  }

  /** Reads all files now, whether they seem changed or not. The caller logs what came of it. */
  reload(): Promise<ReloadReport> {
    return this.#inTurn(async () => {
      const outcomes: ReloadOutcome[] = [];
      for (const files of this.#watched) outcomes.push(await files.reload());
      return {
        changed: outcomes.flatMap((outcome) => (outcome.kind === "changed" ? outcome.keys : [])),
        refused: outcomes.filter((outcome) => outcome.kind === "refused"),
      };
    });
  }

  /** Looks at no file any more. */
  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
    this.#watched.clear();
  }

  #watch(files: Watched): void {
    this.#watched.add(files);
    if (!this.#stopped) this.#cancel ??= this.#parts.clock.after(LOOK_EVERY_MS, () => void this.#look());
  }

  async #look(): Promise<void> {
    let settling = false;
    await this.#inTurn(async () => {
      for (const files of this.#watched) {
        const outcome = await files.look();
        if (outcome.kind === "settling") settling = true;
        else if (outcome.kind === "changed")
          this.#parts.log.info({ files: outcome.keys }, "changed files are in force");
      }
    });
    if (!this.#stopped) {
      this.#cancel = this.#parts.clock.after(settling ? SETTLE_MS : LOOK_EVERY_MS, () => void this.#look());
    }
  }

  /** One at a time, so that no older content is put in place after a newer one. */
  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(action);
    this.#turn = done.catch(() => {});
    return done;
  }
}

type Watched = Pick<FollowedFiles<unknown, Files>, "look" | "reload">;

/** By what to tell that the files have changed since they were read. */
interface Source {
  readonly signature: string;
  /** Of each file's content and mode: what is in the files is not kept here, it may be secret. */
  readonly digests: ReadonlyMap<string, string>;
}

class FollowedFiles<T, F extends Files> {
  current: T;
  readonly #settings: ReloadingSettings<T, F>;
  readonly #parts: ReloadsParts;
  #inForce: Source;
  /** The signature at the last look. */
  #seen: string;
  /** Since when the files cannot be used, on the monotonic clock. */
  #brokenSince: number | undefined;

  constructor(settings: ReloadingSettings<T, F>, value: T, source: Source, parts: ReloadsParts) {
    this.#settings = settings;
    this.#parts = parts;
    this.current = value;
    this.#inForce = source;
    this.#seen = source.signature;
  }

  /** Reads the files where they have changed and settled, or are broken. */
  async look(): Promise<ReloadOutcome | { readonly kind: "settling" }> {
    const signature = await signatureOf(this.#settings.files);
    const seen = this.#seen;
    this.#seen = signature;
    if (signature === this.#inForce.signature && this.#brokenSince === undefined) return { kind: "unchanged" };
    return signature === seen ? this.#take(false) : { kind: "settling" };
  }

  /** Reads the files; where they cannot be used, says so at once. */
  reload(): Promise<ReloadOutcome> {
    return this.#take(true);
  }

  async #take(complainAtOnce: boolean): Promise<ReloadOutcome> {
    const { section, files, load, put, condition } = this.#settings;
    let keys: string[];
    try {
      const { contents, source } = await readTogether(section, files);
      keys = this.#changedIn(source);
      if (keys.length > 0) {
        const value = await load(contents);
        put?.(value, this.current);
        this.current = value;
      }
      this.#inForce = source;
      this.#seen = source.signature;
    } catch (fault) {
      return this.#refuse(fault, complainAtOnce);
    }
    this.#brokenSince = undefined;
    this.#parts.conditions.clear(condition.component, condition.code);
    if (keys.length === 0) return { kind: "unchanged" };
    for (const subject of keys) this.#parts.audit({ action: "configuration.changed", actor: "gateway", subject });
    return { kind: "changed", keys };
  }

  #changedIn({ digests }: Source): string[] {
    const names = [...digests.keys()].filter((name) => digests.get(name) !== this.#inForce.digests.get(name));
    return names.map((name) => `${this.#settings.section}.${name}`);
  }

  #refuse(fault: unknown, complainAtOnce: boolean): ReloadOutcome {
    const { section, condition } = this.#settings;
    const now = this.#parts.clock.monotonic();
    this.#brokenSince ??= now;
    const reason = fault instanceof GatewayError ? fault.message : `${section}: ${messageOf(fault)}`;
    if (complainAtOnce || now - this.#brokenSince >= GRACE_MS) {
      const hint = fault instanceof GatewayError ? fault.hint : `Check the files of ${section}.`;
      const detail = `${reason}. What was in force before stays. ${hint}`;
      this.#parts.conditions.raise(condition.component, condition.code, "degraded", detail);
    }
    return { kind: "refused", section, reason };
  }
}

/** What is wrong with a file; without a `name`, with the files together. */
export interface FileFault {
  readonly name: string | undefined;
  readonly fault: GatewayError;
}

/** What `Reloads.open` would complain of: every file that cannot be read, or, where all can be, what `load` says of them. */
export async function faultsOfFiles<T, F extends Files>(material: FileMaterial<T, F>): Promise<FileFault[]> {
  const { section, files, load } = material;
  const unreadable: FileFault[] = [];
  for (const [name, path] of Object.entries(files)) {
    if (path === undefined) continue;
    const fault = await read(path, `${section}.${name}`).then(() => undefined, asFault);
    if (fault !== undefined) unreadable.push({ name, fault });
  }
  if (unreadable.length > 0) return unreadable;
  try {
    await load((await readTogether(section, files)).contents);
    return [];
  } catch (thrown) {
    return [{ name: undefined, fault: asFault(thrown) }];
  }
}

function asFault(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown;
  throw thrown;
}

/** Reads files that do not change meanwhile, so that all are of one time. */
async function readTogether<F extends Files>(
  section: string,
  files: F,
): Promise<{ contents: Contents<F>; source: Source }> {
  let signature = await signatureOf(files);
  for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
    const contents: Record<string, FileContent> = {};
    for (const [name, path] of Object.entries(files)) {
      if (path !== undefined) contents[name] = await read(path, `${section}.${name}`);
    }
    const after = await signatureOf(files);
    if (after === signature) {
      const digests = new Map(Object.entries(contents).map(([name, file]) => [name, digestOf(file)]));
      return { contents: contents as Contents<F>, source: { signature, digests } };
    }
    signature = after;
  }
  throw new GatewayError({
    code: "FILES_CHANGING",
    op: "files.load",
    message: `the files of ${section} change while they are read`,
    hint: "Write a new file beside the old one, and rename it into place.",
  });
}

async function read(path: string, key: string): Promise<FileContent> {
  const unreadable = (why: string, hint: string, cause?: unknown): GatewayError =>
    new GatewayError({ code: "FILE_UNREADABLE", op: "files.load", message: `${path} ${why}`, hint, cause });
  let found: { readonly size: number; readonly isFile: boolean };
  try {
    const stats = await stat(path);
    found = { size: stats.size, isFile: stats.isFile() };
    if (found.isFile && found.size <= MAX_FILE_BYTES) {
      return { path, content: await readFile(path), mode: stats.mode & 0o7777 };
    }
  } catch (error) {
    const hint = `Check ${key}, and that the gateway's user may read the file; summit-edge config check lists all such files.`;
    throw unreadable(`cannot be read: ${codeOf(error) ?? messageOf(error)}`, hint, error);
  }
  if (!found.isFile) throw unreadable("is not a file", `Check ${key}.`);
  throw unreadable(`has ${found.size} bytes; ${MAX_FILE_BYTES} are the most that are read`, `Check ${key}.`);
}

function digestOf({ content, mode }: FileContent): string {
  return `${mode} ${createHash("sha256").update(content).digest("base64")}`;
}

/** Changes whenever one of the files does: another one in its place, other content, other permissions, gone. */
async function signatureOf(files: Files): Promise<string> {
  const parts: string[] = [];
  for (const path of Object.values(files)) {
    if (path === undefined) continue;
    try {
      const { dev, ino, size, mode, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
      parts.push(`${dev} ${ino} ${size} ${mode} ${mtimeNs} ${ctimeNs}`);
    } catch (error) {
      parts.push(codeOf(error) ?? "unreadable");
    }
  }
  return parts.join("\n");
}
