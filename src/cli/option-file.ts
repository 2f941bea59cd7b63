import { readFile } from "node:fs/promises";
import { GatewayError, messageOf } from "../kernel/errors.ts";

/** The text of a file that an option names; `undefined` where it names none. Throws `FILE_UNREADABLE`. */
export async function readOptionFile(option: string, file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new GatewayError({
      code: "FILE_UNREADABLE",
      op: "cli.readOptionFile",
      message: `cannot read ${file}: ${messageOf(error)}`,
      hint: `Name a file that exists and can be read with ${option}.`,
      cause: error,
    });
  }
}
