/** A name that stays for a pseudo-terminal, whose own nobody knows beforehand: a symbolic link. */
import { lstat, readlink, stat, symlink, unlink } from "node:fs/promises";
import { resolve } from "node:path";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";

/**
 * Makes `link` lead to the terminal, where one is asked for; gives back how to take it away. A link that leads nowhere makes room.
 * @throws GatewayError PORT_LINK
 */
export async function linkTo(terminal: string, link: string | undefined): Promise<() => Promise<void>> {
  if (link === undefined) return async () => {};
  const path = resolve(link);
  try {
    const isLink = (await lstat(path).catch(() => undefined))?.isSymbolicLink() ?? false;
    if (isLink && (await stat(path).catch(() => undefined)) === undefined) await unlink(path);
    await symlink(terminal, path);
  } catch (error) {
    const isThere = codeOf(error) === "EEXIST";
    throw new GatewayError({
      code: "PORT_LINK",
      op: "simulate.port",
      message: isThere ? `${link} is there already` : `${link} cannot be made: ${messageOf(error)}`,
      hint: "Name a place for --port where there is nothing yet, in a folder that you may write to.",
      cause: error,
    });
  }
  return async () => {
    if ((await readlink(path).catch(() => undefined)) === terminal) await unlink(path).catch(() => {});
  };
}
