/** How a command is given a secret: never on its command line, where everybody on the machine can read it. */
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { GatewayError } from "../kernel/errors.ts";
import { readOptionFile } from "./option-file.ts";

/** Longest line that is read for a secret. */
const MAX_CHARACTERS = 4096;

/**
 * The first line of the file that `option` names; without one, of standard input, where a person is asked for it, twice
 * and without an echo.
 * @throws GatewayError SECRET_MISSING, SECRET_MISMATCH, FILE_UNREADABLE
 */
export async function readSecret(what: string, option: string, file: string | undefined): Promise<string> {
  const named = await readOptionFile(option, file);
  if (named !== undefined) return firstLine(named, `${file} holds no ${what}`, option);
  if (process.stdin.isTTY !== true) {
    return firstLine(await standardInput(), `no ${what} came on standard input`, option);
  }
  const [given = "", again] = await asked([`New ${what}: `, `The ${what} again: `]);
  if (given === again) return firstLine(given, `the ${what} is empty`, option);
  throw new GatewayError({
    code: "SECRET_MISMATCH",
    op: "cli.readSecret",
    message: `the two are not the same ${what}`,
    hint: "Try again, or have one made with --generate.",
  });
}

function firstLine(text: string, missing: string, option: string): string {
  const line = /^[^\r\n]*/.exec(text)?.[0] ?? "";
  if (line !== "" && line.length <= MAX_CHARACTERS && !line.includes("\0")) return line;
  throw new GatewayError({
    code: "SECRET_MISSING",
    op: "cli.readSecret",
    message: line === "" ? missing : `what was given is too long, or holds NUL`,
    hint: `Give it as one line of a file with ${option} FILE, or on standard input; or have one made with --generate.`,
  });
}

async function standardInput(): Promise<string> {
  let text = "";
  for await (const chunk of process.stdin.setEncoding("utf8")) {
    text += chunk;
    if (text.includes("\n") || text.length > MAX_CHARACTERS) break;
  }
  return text;
}

/** The answers to prompts, without an echo; as many as there were before the person gave up. */
async function asked(prompts: readonly string[]): Promise<string[]> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: silent, terminal: true });
  const answers: string[] = [];
  try {
    for (const prompt of prompts) {
      process.stderr.write(prompt);
      answers.push(await terminal.question(""));
      process.stderr.write("\n");
    }
  } catch (error) {
    // Ctrl-C or Ctrl-D
    if (!(error instanceof Error) || error.name !== "AbortError") throw error;
    process.stderr.write("\n");
  } finally {
    terminal.close();
  }
  return answers;
}
