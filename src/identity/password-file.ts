/** The password file on the card: read whole, written whole or not at all, for nobody's eyes but the gateway's. */
import { type FileHandle, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import { readPasswords } from "./access-control.ts";
import { type PasswordEntries, userOf } from "./passwords.ts";

/** Another command that writes the file is waited for so often, and so long each time. */
const LOOKS = 100;
const LOOK_EVERY_MS = 50;

/**
 * The entries of a password file; none where there is no file yet.
 * @throws GatewayError PASSWORD_FILE_INVALID, PASSWORD_FILE_UNREADABLE
 */
export async function loadPasswords(path: string): Promise<PasswordEntries> {
  return readPasswords({ path, content: Buffer.from(await textOf(path)) });
}

/**
 * Changes the file: `edit` gets its text, empty where there is none, with its entries, and returns the next text; where it
 * throws, nothing is changed. Readable and writable by its owner alone: the owner of `dataDir`, who is the gateway's user, where this process
 * may give it away. Two that change it at once do so one after the other.
 * @throws GatewayError PASSWORD_FILE_BUSY, _INVALID, _UNREADABLE, _UNWRITABLE
 */
export async function changePasswords(
  path: string,
  dataDir: string,
  pause: (ms: number) => Promise<unknown>,
  edit: (text: string, entries: PasswordEntries) => string,
): Promise<void> {
  const next = `${path}.new`;
  const file = await create(next, pause);
  try {
    const text = await textOf(path);
    await file.writeFile(edit(text, readPasswords({ path, content: Buffer.from(text) })));
    await file.chmod(0o600);
    await giveTo(file, dataDir);
    await file.sync();
    await rename(next, path);
    await syncFolder(path);
  } catch (fault) {
    await rm(next, { force: true });
    throw fault instanceof GatewayError ? fault : unwritable(path, fault);
  } finally {
    await file.close();
  }
}

/** The text with this user's line: in the place of the one before, else at the end. */
export function withEntry(text: string, name: string, entry: string): string {
  const line = `${name}:${entry}`;
  const lines = linesOf(text);
  const at = lines.findIndex((each) => userOf(each) === name);
  if (at < 0) lines.push(line);
  else lines[at] = line;
  return `${lines.join("\n")}\n`;
}

/** The text without these users' lines. */
export function withoutEntries(text: string, names: readonly string[]): string {
  return linesOf(text)
    .filter((line) => !names.includes(userOf(line)))
    .map((line) => `${line}\n`)
    .join("");
}

function linesOf(text: string): string[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return "";
    throw new GatewayError({
      code: "PASSWORD_FILE_UNREADABLE",
      op: "passwords.read",
      message: `${path} cannot be read: ${codeOf(error) ?? messageOf(error)}`,
      hint: "Run this as root, or as the gateway's user; mqtt.passwordFile names the file.",
      cause: error,
    });
  }
}

/** Creates the file that is to become the next one; there is never more than one. */
async function create(path: string, pause: (ms: number) => Promise<unknown>): Promise<FileHandle> {
  for (let look = 1; ; look++) {
    try {
      return await open(path, "wx", 0o600);
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw unwritable(path, error);
      if (look < LOOKS) await pause(LOOK_EVERY_MS);
      else
        throw new GatewayError({
          code: "PASSWORD_FILE_BUSY",
          op: "passwords.write",
          message: `another command seems to be changing the passwords: ${path} is there`,
          hint: `Where none is, it was left behind by one that was cut short; remove it, and try again: rm ${path}`,
          cause: error,
        });
    }
  }
}

/** To whom the gateway's data belong, the passwords must belong too: only then may it read them. */
async function giveTo(file: FileHandle, dataDir: string): Promise<void> {
  if (process.geteuid?.() !== 0) return;
  const owner = await stat(dataDir).catch(() => undefined);
  if (owner !== undefined) await file.chown(owner.uid, owner.gid);
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function unwritable(path: string, error: unknown): GatewayError {
  const isFolderMissing = codeOf(error) === "ENOENT";
  return new GatewayError({
    code: "PASSWORD_FILE_UNWRITABLE",
    op: "passwords.write",
    message: `${path} cannot be written: ${codeOf(error) ?? messageOf(error)}`,
    hint: isFolderMissing
      ? `The folder that mqtt.passwordFile names is not there; make it, and try again: mkdir -p ${dirname(path)}`
      : "Run this as root; the folder that mqtt.passwordFile names must not be one of systemd's credentials.",
    cause: error,
  });
}
