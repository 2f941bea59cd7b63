import type { Command } from "commander";
import { GatewayError } from "../kernel/errors.ts";
import type { Status } from "../operations/status.ts";
import { FATES, imbalance } from "../outbox/ledger.ts";
import { configOption } from "./config-file.ts";
import { Daemon, type DaemonOptions, daemonAddress, withKeyOptions } from "./daemon.ts";
import { ago, amount, count, json, printable, size, span, table } from "./format.ts";
import { processTerminal, type Terminal } from "./terminal.ts";
import { wearText, writesText } from "./wear.ts";

const REFRESH_MS = 2_000;
const CLEAR_SCREEN = "\u001b[2J\u001b[H";

interface StatusOptions extends DaemonOptions {
  readonly json?: true;
  readonly watch?: true;
}

/** Adds `summit-edge status`. */
export function addStatusCommand(program: Command, terminal: Terminal = processTerminal): void {
  withKeyOptions(program.command("status"))
    .description("health, ledger, outbox, uplink and sources, from the running daemon")
    .addOption(configOption("configuration that says where the daemon listens"))
    .option("--url <url>", "the daemon's address (default: the configuration's, else http://127.0.0.1:8480)")
    .option("--json", "print the answer as JSON, with --watch one line each time")
    .option("--watch", "print it again every 2 seconds")
    .action(async (options: StatusOptions) => {
      const daemon = new Daemon(await daemonAddress(options, terminal));
      if (options.watch) await watch(daemon, options, terminal);
      else terminal.write(render(await daemon.status(), options));
    });
}

function render(status: Status, options: StatusOptions): string {
  return options.json ? json(status, options.watch ? undefined : 2) : statusText(status);
}

/** An unreachable daemon does not end the watching: it is what one watches for. */
async function watch(daemon: Daemon, options: StatusOptions, terminal: Terminal): Promise<void> {
  do {
    const text = await daemon.status().then(
      (status) => render(status, options),
      (error: unknown) => unreachableText(error, options),
    );
    terminal.write(`${terminal.interactive && !options.json ? CLEAR_SCREEN : ""}${text}`);
  } while (await terminal.pause(REFRESH_MS));
}

function unreachableText(error: unknown, options: StatusOptions): string {
  if (!(error instanceof GatewayError)) throw error;
  const { code, message, hint } = error;
  return options.json ? json({ error: { code, message, hint } }) : `${printable(message)}\n${hint}\n`;
}

/** The status for a person. */
export function statusText(status: Status): string {
  const { gateway, version, uptimeSeconds, health } = status;
  const head = `${gateway}, Summit Edge ${version}, running for ${span(uptimeSeconds)}`;
  const sections = [
    `${printable(head)}\nHealth: ${health.state}, ${health.score} of 100\n${clockText(status)}`,
    section("Conditions", conditionRows(status)),
    section("Outbox", outboxRows(status)),
    section("Uplink", uplinkRows(status)),
    `Ledger\n${indent(table(ledgerRows(status), ["", ">"]))}  ${balanceText(status)}\n`,
    status.sources.length === 0 ? "" : `Sources\n${indent(sourceTable(status))}${indent(unroutedText(status))}`,
    portText(status),
  ];
  return sections.filter((text) => text !== "").join("\n");
}

const indent = (text: string): string => text.replace(/^(?=.)/gm, "  ");
const section = (title: string, rows: readonly (readonly string[])[]): string =>
  rows.length === 0 ? "" : `${title}\n${indent(table(rows))}`;

function conditionRows({ conditions, time }: Status): string[][] {
  return conditions.map(({ severity, component, code, since, detail }) => [
    severity,
    component,
    code,
    ago(since, time),
    detail,
  ]);
}

/** Nothing where the clock is right. What is unsynchronised explains readings that wait while fusion is there. */
function clockText({ clock: { quality, source, since }, time }: Status): string {
  if (quality === "synchronised") return "";
  if (source === null) return "Clock: nothing on this machine can tell whether it is synchronised\n";
  const waits = "; readings without a time of their own may wait for it, for outbox.waitForClock at most";
  const lasts = span((Date.parse(time) - Date.parse(since)) / 1000);
  return `Clock: ${quality} for ${lasts}, says ${printable(source)}${quality === "unsynchronised" ? waits : ""}\n`;
}

/** `, 3 high, 4 normal`: the lanes in which there is something. */
function lanesText(byPriority: Readonly<Record<string, number>>): string {
  const lanes = Object.entries(byPriority).filter(([, n]) => n > 0);
  return lanes.map(([name, n]) => `, ${count(n)} ${name}`).join("");
}

function outboxRows({ outbox, wear }: Status): string[][] {
  return [
    ["waiting", `${count(outbox.pending)}${lanesText(outbox.pendingByPriority)}`],
    ["oldest", outbox.pending === 0 ? "-" : span(outbox.oldestAgeSeconds)],
    ["in use", `${size(outbox.bytes)} of ${size(outbox.maxBytes)}`],
    ["dead letters", count(outbox.deadLetters)],
    ["kept for replay", amount(outbox.kept.readings, outbox.kept.bytes)],
    ...(wear === null
      ? []
      : [
          ["writes", writesText(wear)],
          ["card wear", wearText(wear)],
        ]),
  ];
}

function uplinkRows({ uplink, time }: Status): string[][] {
  const { state, breaker, url, lastSuccessAt, lastFailure } = uplink;
  const rows = [
    ["state", state],
    ["breaker", breaker],
    ["address", url ?? "none: everything is kept"],
    ["last success", ago(lastSuccessAt, time)],
  ];
  if (lastFailure !== null)
    rows.push(["last failure", `${ago(lastFailure.at, time)}: ${lastFailure.detail} (${lastFailure.code})`]);
  if (uplink.nextTryInSeconds !== null) rows.push(["next try", nextTryText(uplink, uplink.nextTryInSeconds)]);
  return rows;
}

/** A fusion that is looked for is tried on its return: the wait alone would send somebody to restart the gateway. */
function nextTryText({ looksEverySeconds }: Status["uplink"], seconds: number): string {
  const latest = `in ${span(Math.ceil(seconds))}`;
  // An older daemon does not say whether it looks.
  if (!looksEverySeconds) return latest;
  return `as soon as fusion can be connected to (checked every ${looksEverySeconds} s), ${latest} at the latest`;
}

function ledgerRows({ ledger, outbox }: Status): string[][] {
  const lanesOf = (fate: string) => (fate === "evicted" ? lanesText(outbox.evictedByPriority).slice(2) : "");
  return [["accepted", count(ledger.accepted), ""], ...FATES.map((fate) => [fate, count(ledger[fate]), lanesOf(fate)])];
}

function balanceText({ ledger, refused }: Status): string {
  const missing = imbalance(ledger);
  const balance = missing === 0 ? "The books balance." : `THE BOOKS DO NOT BALANCE: ${count(missing)} without a fate.`;
  const reasons = Object.entries(refused).map(([reason, n]) => `${count(n)} ${printable(reason)}`);
  const { "outbox-full": _withoutRoom, ...kept } = refused;
  const look = Object.values(kept).some((n) => n > 0) ? "; see summit-edge quarantine" : "";
  return `${balance} Duplicates: ${count(ledger.duplicates)}. Refused: ${reasons.join(", ") || "none"}${look}.`;
}

/** What a misspelt topic leaves. An older daemon does not count it. */
function unroutedText({ sources }: Status): string {
  const lost = sources.filter(({ unrouted = 0 }) => unrouted > 0);
  const lines = lost.map(({ name, unrouted = 0 }) => {
    const messages = unrouted === 1 ? "message was" : "messages were";
    return `${printable(name)}: ${count(unrouted)} ${messages} not stored: no route in mqtt.routes, no subscriber; see the log\n`;
  });
  return lines.join("");
}

function portText({ sources, time }: Status): string {
  const ports = sources.flatMap(({ name, state, port }) => (port === undefined ? [] : [{ name, state, ...port }]));
  if (ports.length === 0) return "";
  const rows = ports.map(({ name, state, since, path, device, bytes, frames, refused, discarded }) => [
    name,
    `${state} for ${span((Date.parse(time) - Date.parse(since)) / 1000)}`,
    count(bytes),
    count(frames),
    count(refused),
    count(discarded),
    device === null || device === path ? path : `${device}, ${path}`,
  ]);
  const headings = ["name", "state", "bytes>", "frames>", "unreadable>", "discarded>", "device"];
  const wrong = ports.flatMap(({ name, detail }) => (detail === null ? [] : [`${printable(`${name}: ${detail}`)}\n`]));
  return `Serial ports\n${indent(table(rows, headings))}${indent(wrong.join(""))}`;
}

function sourceTable({ sources, time }: Status): string {
  const rows = sources.map(({ name, kind, state, accepted, refused, lastReadingAt }) => [
    name,
    kind,
    state,
    ago(lastReadingAt, time),
    count(accepted),
    count(refused),
  ]);
  return table(rows, ["name", "kind", "state", "last reading", "accepted>", "refused>"]);
}
