/** `summit-edge profiles`: which devices are known, what is known of one, and whether a capture is of one. */
import type { Command } from "commander";
import { stringify } from "yaml";
import { profileScores, type TriedFrame, tryPipeline } from "../codec/profile-scores.ts";
import { problemText } from "../config/problem.ts";
import { candidateOf, pipelineOf, shippedCandidates, vectorFault } from "../config/profile-vectors.ts";
import { findProfile, type LoadedProfile, profileFault, shippedProfiles } from "../config/profiles.ts";
import type { DeviceProfile } from "../config/schema-profile.ts";
import { systemClock } from "../kernel/clock.ts";
import { ExitStatus, GatewayError } from "../kernel/errors.ts";
import { wholeNumber } from "./arguments.ts";
import { count, json, printable, table } from "./format.ts";
import { bestText, scoreRows, triedText, verdictText } from "./profiles/judgement.ts";
import { readCapture } from "./profiles/read-capture.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface Options {
  readonly json?: true;
}
interface TestOptions extends Options {
  readonly profile?: string;
  readonly limit: number;
}

/** Adds `summit-edge profiles` with `list`, `show` and `test`. */
export function addProfilesCommand(program: Command, terminal: Terminal = processTerminal): void {
  const group = program
    .command("profiles")
    .description("device profiles: what a serial port needs to know of a sensor");
  group.addHelpText("after", "\nExample:\n  summit-edge profiles show plantower-pms5003");
  group
    .command("list")
    .description("the devices that are known")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  summit-edge profiles list")
    .action((options: Options) => list(options, terminal));
  group
    .command("show <name>")
    .description("one of them, by name or by a file of your own: wiring, data sheet, readings; its vectors are tried")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExample:\n  summit-edge profiles show victron-ve-direct\n  summit-edge profiles show ./probe.yaml",
    )
    .action((name: string, options: Options) => show(name, options, terminal));
  group
    .command("test <file>")
    .description("try a capture against a profile, or against all; exit status 1 where it does not fit")
    .option("--profile <name>", "this one alone, with what became of each frame")
    .option("--limit <n>", "show at most so many frames", wholeNumber(0, 1_000_000), 20)
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nThe file: what summit-edge serial capture has recorded, or the bytes alone.\n\nExample:\n  summit-edge profiles test dust.capture\n  summit-edge profiles test dust.capture --profile nova-sds011",
    )
    .action((file: string, options: TestOptions) =>
      options.profile === undefined
        ? testAll(file, options, terminal)
        : testOne(file, options.profile, options, terminal),
    );
}

/** By name, or by a path from where the command is given. Throws `PROFILE_UNKNOWN` or `PROFILE_INVALID`. */
export async function loadedProfile(reference: string): Promise<LoadedProfile> {
  const outcome = await findProfile(reference, process.cwd());
  if (outcome.kind === "found") return outcome;
  if (outcome.kind === "unknown")
    throw new GatewayError({
      code: "PROFILE_UNKNOWN",
      op: "profiles.find",
      message: profileFault(outcome),
      hint: "summit-edge profiles list has the names; a file of your own is named with its folder, as ./probe.yaml.",
    });
  throw new GatewayError({
    code: "PROFILE_INVALID",
    op: "profiles.read",
    message: [`${outcome.file} is no profile`, ...outcome.problems.map((each) => `  ${problemText(each)}`)].join("\n"),
    hint: "Mend what is listed; summit-edge profiles show NAME shows one that is right.",
  });
}

/** How the gateway gets its readings. */
export function mannerOf({ server, poll, modbus, sdi12 }: DeviceProfile): "speaks" | "is asked" | "Modbus" | "SDI-12" {
  if (server !== undefined || modbus !== undefined) return "Modbus";
  if (sdi12 !== undefined) return "SDI-12";
  return poll === undefined ? "speaks" : "is asked";
}

async function list(options: Options, terminal: Terminal): Promise<void> {
  const profiles: DeviceProfile[] = [];
  for (const name of await shippedProfiles()) profiles.push((await loadedProfile(name)).profile);
  if (options.json) {
    const rows = profiles.map((profile) => {
      const { name, title, also, baudRate, class: of } = profile;
      return { name, title, also, manner: mannerOf(profile), baudRate, class: of ?? null };
    });
    terminal.write(json({ profiles: rows }, 2));
    return;
  }
  const rows = profiles.map((profile) => [profile.name, mannerOf(profile), String(profile.baudRate), profile.title]);
  terminal.write(table(rows, ["name", "manner", "bit/s>", "device"]));
}

async function show(reference: string, options: Options, terminal: Terminal): Promise<void> {
  const loaded = await loadedProfile(reference);
  const { profile, file } = loaded;
  const vectors = await Promise.all(
    profile.vectors.map(async (vector) => ({ ...vector, fault: (await vectorFault(profile, vector)) ?? null })),
  );
  if (vectors.some(({ fault }) => fault !== null)) process.exitCode = ExitStatus.failed;
  if (options.json) terminal.write(json({ file, ...profile, manner: mannerOf(profile), vectors }, 2));
  else terminal.write(profileText(loaded, reference, vectors));
}

function profileText(
  { profile, file, keys, server }: LoadedProfile,
  reference: string,
  vectors: readonly { readonly origin: string; readonly reading: object; readonly fault: string | null }[],
): string {
  const { dataSheet, wiring } = profile;
  const facts = [
    ["also", profile.also.join(", ")],
    ["manner", mannerOf(profile)],
    ["data sheet", [dataSheet?.title, dataSheet?.edition, dataSheet?.section].filter(Boolean).join("; ")],
    ["", dataSheet?.url ?? ""],
    ["interface", wiring?.interface ?? ""],
    ["supply", wiring?.supply ?? ""],
    ["pins", wiring?.pins ?? ""],
    ["file", file],
  ].filter(([, text]) => text !== "");
  const readings = vectors.flatMap(({ origin, reading, fault }) => [
    `  ${printable(JSON.stringify(reading))}`,
    `    ${fault === null ? "read as it ought to be" : `WRONG: ${printable(fault)}`}; ${printable(origin)}`,
  ]);
  const brought = stringify({ ...keys, ...(server && { server }) }, { lineWidth: 0 }).trimEnd();
  const port = `  - { name: NAME, path: /dev/serial/by-id/…, profile: ${reference} }`;
  const line = `or, with others on one line:\n  - { name: NAME, path: …, modbus: { servers: [{ address: 1, profile: ${reference} }] } }`;
  return [
    printable(profile.title),
    table(facts).trimEnd(),
    ...(profile.notes === undefined ? [] : ["", printable(profile.notes.trim())]),
    "",
    "In the configuration:",
    "serial:",
    port,
    ...(server === undefined ? [] : [line]),
    "",
    "It brings:",
    ...brought.split("\n").map((line) => `  ${line}`),
    ...(readings.length === 0 ? [] : ["", "Its vectors:", ...readings]),
    "",
  ].join("\n");
}

async function testAll(file: string, options: TestOptions, terminal: Terminal): Promise<void> {
  const capture = await readCapture(file);
  const scores = await profileScores(capture, await shippedCandidates(), systemClock.now());
  const best = scores.find(({ fits }) => fits);
  if (best === undefined) process.exitCode = ExitStatus.failed;
  if (options.json) terminal.write(json({ file, best: best?.name ?? null, scores }, 2));
  else
    terminal.write(
      `${table(scoreRows(scores), ["profile", "readings>", "understood>", "known fields>", ""])}${bestText(best)}`,
    );
}

async function testOne(file: string, reference: string, options: TestOptions, terminal: Terminal): Promise<void> {
  const { profile } = await loadedProfile(reference);
  const candidate = candidateOf(profile);
  const pipeline = pipelineOf(profile);
  if (candidate === undefined || pipeline === undefined) throw withoutFrames(profile);
  const capture = await readCapture(file);
  const now = systemClock.now();
  const shown: TriedFrame[] = [];
  let more = 0;
  await tryPipeline(pipeline, capture, now, (tried) => {
    if (shown.length < options.limit) shown.push(tried);
    else more++;
  });
  const [score] = await profileScores(capture, [candidate], now);
  if (score === undefined || !score.fits) process.exitCode = ExitStatus.failed;
  if (options.json) {
    const frames = shown.map(({ frame, decoded }) => ({
      hex: Buffer.from(frame.bytes).toString("hex"),
      ...(frame.kind === "discarded" ? { discarded: frame.reason, length: frame.length } : {}),
      ...(decoded === undefined ? {} : { decoded }),
    }));
    terminal.write(json({ file, ...score, frames, more }, 2));
    return;
  }
  const rest = more === 0 ? "" : `… and ${count(more)} more (--limit)\n`;
  terminal.write(`${shown.map(triedText).join("")}${rest}${score === undefined ? "" : verdictText(score)}`);
}

function withoutFrames({ name }: DeviceProfile): GatewayError {
  return new GatewayError({
    code: "PROFILE_ASKS",
    op: "profiles.test",
    message: `${name} reads registers that it asks for: what it says by itself is nothing`,
    hint: `summit-edge profiles show ${name} tries the answers that its data sheet has.`,
  });
}
