/**
 * A serial device, opened through the `serialport` driver.
 *
 * The driver opens, locks and sets up the line and waits for bytes; reading them is done here, because the driver's own
 * stream takes a read of no bytes – what Linux answers for ever on a line that was hung up – for "try again", spins on it,
 * and never says that the device was unplugged. An unplug shows in one of three ways: an error or the end of the file
 * while reading, an error while waiting, or, while nothing comes, a device file that is gone or is another one.
 */
import { fstat, read, type Stats, write } from "node:fs";
import { readFile, realpath, stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { promisify } from "node:util";
import { deviceHolders, type Holder, holderText, lockHolder } from "../../kernel/device-holders.ts";
import { codeOf, messageOf } from "../../kernel/errors.ts";
import { deviceFileMeant } from "../../kernel/serial-devices.ts";
import type { LineSettings, OpenOutcome, Port, PortFault, PortSink, PortSurroundings } from "./port.ts";

/** How often a silent port's device file is looked at. */
export const DEVICE_CHECK_MS = 2000;
/** As much as a terminal hands out in one read. */
const READ_BYTES = 4096;
/** How long until a line that took no more bytes is tried again. */
const WRITE_AGAIN_MS = 10;

const readInto = promisify(read);
const writeFrom = promisify(write);
const statOf = promisify(fstat);

/** What is used of the driver's open port on Linux and macOS. */
interface DriverPort {
  readonly fd: number | null;
  readonly poller: {
    once(event: "readable", listener: (error: Error | null) => void): unknown;
    stop(): void;
  };
  set(lines: Readonly<Record<"dtr" | "rts" | "brk" | "cts" | "dsr", boolean>>): Promise<void>;
  close(): Promise<void>;
}

class DevicePort implements Port {
  readonly isMidstream: boolean;
  readonly #path: string;
  readonly #driver: DriverPort;
  readonly #fd: number;
  readonly #identity: string;
  readonly #surroundings: PortSurroundings;
  #ending = false;
  #fault: PortFault | undefined;
  #paused = false;
  #wake = (): void => {};
  #heardSinceCheck = false;
  #stopWatching = (): void => {};
  #pumping: Promise<void> | undefined;
  #writing: Promise<void> | undefined;

  constructor(
    { path, isPseudo }: { readonly path: string; readonly isPseudo: boolean },
    driver: DriverPort,
    fd: number,
    identity: string,
    surroundings: PortSurroundings,
  ) {
    // What was written to a pseudo-terminal before it was opened has waited there, from its beginning.
    this.isMidstream = !isPseudo;
    this.#path = path;
    this.#driver = driver;
    this.#fd = fd;
    this.#identity = identity;
    this.#surroundings = surroundings;
  }

  read(sink: PortSink): void {
    this.#watch();
    this.#pumping = this.#pump(sink);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  write(bytes: Uint8Array): Promise<void> {
    this.#writing = this.#writeAll(bytes);
    return this.#writing;
  }

  async close(): Promise<void> {
    this.#end(undefined);
    await (this.#pumping ?? this.#release());
  }

  async #pump(sink: PortSink): Promise<void> {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    while (!this.#ending) {
      if (this.#paused) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      const length = await this.#readSome(buffer);
      if (length === 0) continue;
      this.#heardSinceCheck = true;
      sink.onData(buffer.subarray(0, length));
    }
    await this.#release();
    if (this.#fault !== undefined) sink.onClosed(this.#fault);
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#ending; ) {
      try {
        at += (await writeFrom(this.#fd, bytes, at)).bytesWritten;
      } catch (error) {
        // The driver's poller waits for one kind of event at a time, and that is for reading.
        if (codeOf(error) === "EAGAIN") await this.#surroundings.clock.sleep(WRITE_AGAIN_MS);
        else if (codeOf(error) !== "EINTR") this.#end(await this.#faultAfter(messageOf(error)));
      }
    }
  }

  async #release(): Promise<void> {
    // A descriptor that is still written to must not be closed: its number may be another file's by then.
    await this.#writing;
    await this.#driver.close().catch(() => {
      // A device that is gone cannot be closed properly, and need not be.
    });
  }

  /** The number of bytes read; 0 where the caller is to look whether the port is ending, and try again. */
  async #readSome(buffer: Buffer): Promise<number> {
    try {
      const { bytesRead } = await readInto(this.#fd, buffer, 0, READ_BYTES, null);
      if (bytesRead === 0) this.#end(await this.#faultAfter("it was hung up"));
      return bytesRead;
    } catch (error) {
      const code = codeOf(error);
      if (code === "EINTR") return 0;
      if (code !== "EAGAIN") {
        this.#end(await this.#faultAfter(messageOf(error)));
        return 0;
      }
    }
    if (this.#ending) return 0;
    try {
      await this.#readable();
    } catch (error) {
      if (!this.#ending) this.#end(await this.#faultAfter(messageOf(error)));
    }
    return 0;
  }

  #readable(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#driver.poller.once("readable", (error) => (error === null ? resolve() : reject(error)));
    });
  }

  async #faultAfter(problem: string): Promise<PortFault> {
    if (!(await this.#isThere())) return missing(this.#path);
    return { kind: "failed", detail: `${this.#path} was closed: ${problem}` };
  }

  async #isThere(): Promise<boolean> {
    const found = await stat(this.#path).catch(() => undefined);
    return found !== undefined && identityOf(found) === this.#identity;
  }

  /** Ends reading; the first call decides whether it is a fault. */
  #end(fault: PortFault | undefined): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#fault = fault;
    this.#stopWatching();
    this.#wake();
    this.#driver.poller.stop();
  }

  #watch(): void {
    this.#stopWatching = this.#surroundings.clock.after(DEVICE_CHECK_MS, async () => {
      const there = this.#heardSinceCheck || (await this.#isThere());
      this.#heardSinceCheck = false;
      if (this.#ending) return;
      if (there) this.#watch();
      else this.#end(missing(this.#path));
    });
  }
}

/** Opens a device file for this process alone (advisory lock). */
export async function openDevicePort(
  path: string,
  settings: LineSettings,
  surroundings: PortSurroundings,
): Promise<OpenOutcome> {
  try {
    if (!(await stat(path)).isCharacterDevice()) {
      return { kind: "failed", detail: `${path} is not a serial device; correct the port's path` };
    }
    // Looked at first: the driver sets the line up before it tries the lock, and would upset the port of whoever has it.
    const holder = await lockHolder(path);
    if (holder !== undefined) return busy(path, [holder]);
    // Loaded here, so that a gateway without serial ports does not spend memory on the driver.
    const { SerialPort } = await import("serialport");
    const driver = await SerialPort.binding.open({ path, lock: true, ...(await lineOptions(path, settings)) });
    if (!("poller" in driver) || driver.fd === null) {
      await driver.close();
      return { kind: "failed", detail: "serial ports are read on Linux and macOS only" };
    }
    await setControlLines(path, driver, settings);
    const identity = identityOf(await statOf(driver.fd));
    const device = { path, isPseudo: await isPseudoTerminal(path) };
    return { kind: "open", port: new DevicePort(device, driver, driver.fd, identity, surroundings) };
  } catch (error) {
    return faultOfOpening(path, error);
  }
}

async function lineOptions(path: string, settings: LineSettings) {
  const { baudRate, dataBits, parity, flowControl } = settings;
  const software = flowControl === "xonxoff";
  const flow = { rtscts: flowControl === "rtscts", xon: software, xoff: software };
  // A pseudo-terminal has no line: not every kernel lets its speed be set, and it does not matter.
  if (await isPseudoTerminal(path)) {
    return { baudRate: 9600, dataBits: 8, parity: "none", stopBits: 1, ...flow } as const;
  }
  // POSIX knows one or two stop bits; UARTs of the 16550 family make one and a half of two where there are 5 data bits.
  const stopBits: 1 | 2 = settings.stopBits === 1 ? 1 : 2;
  return { baudRate, dataBits, parity, stopBits, ...flow };
}

async function isPseudoTerminal(path: string): Promise<boolean> {
  return (await realpath(path)).startsWith("/dev/pts/");
}

/** Opening raises both lines; they are touched only where they are to be otherwise. */
async function setControlLines(path: string, driver: DriverPort, { dtr, rts }: LineSettings): Promise<void> {
  if ((dtr && rts) || (await isPseudoTerminal(path))) return;
  try {
    await driver.set({ dtr, rts, brk: false, cts: false, dsr: false });
  } catch (error) {
    await driver.close();
    throw error;
  }
}

/** Tells a device from another one that took its name, and from itself plugged in again. */
function identityOf({ dev, ino, rdev }: Stats): string {
  return `${dev} ${ino} ${rdev}`;
}

function missing(path: string): PortFault {
  const meant = deviceFileMeant(path);
  const remedy =
    meant === undefined
      ? "plug the device in, or correct the port's path. It is opened as soon as it is there"
      : `a device file is named in full, so write ${meant}`;
  return { kind: "missing", detail: `${path} is not there: ${remedy}` };
}

function busy(path: string, holders: readonly Holder[]): PortFault {
  const who = holders.length === 0 ? `somebody (sudo fuser -v ${path} names who)` : holderText(holders);
  const remedy = holders.some(({ pid }) => pid === process.pid)
    ? "correct the path or match of one of them"
    : "end it, and the port is opened by itself";
  return { kind: "failed", detail: `${path} is in use by ${who}: ${remedy}` };
}

/** The driver's errors bear no code, only the text of strerror. */
async function faultOfOpening(path: string, error: unknown): Promise<PortFault> {
  const message = messageOf(error);
  if (codeOf(error) === "ENOENT" || /No such (?:file|device)/.test(message)) return missing(path);
  if (codeOf(error) === "EACCES" || /Permission denied|Operation not permitted/.test(message)) {
    return { kind: "denied", detail: await permissionAdvice(path) };
  }
  if (/Cannot lock port|Device or resource busy/.test(message)) {
    return busy(path, await deviceHolders(path));
  }
  return { kind: "failed", detail: `cannot open ${path}: ${message}` };
}

const GROUP_MAY_READ_AND_WRITE = 0o060;

/** Which group the device belongs to, and how to get in. */
export async function permissionAdvice(path: string): Promise<string> {
  const refusal = `permission denied on ${path}`;
  const device = await stat(path).catch(() => undefined);
  if (device === undefined) return `${refusal}: the gateway may not look into its folder`;
  const group = await groupName(device.gid);
  if ((device.mode & GROUP_MAY_READ_AND_WRITE) !== GROUP_MAY_READ_AND_WRITE || device.gid === 0) {
    const mode = (device.mode & 0o777).toString(8).padStart(4, "0");
    return `${refusal}: it belongs to group ${group} with mode ${mode}; give the group dialout access with a udev rule`;
  }
  return `${refusal}: it belongs to group ${group}; join it with "sudo usermod -aG ${group} ${userName()}" and restart the gateway`;
}

/** The group's name after group(5), or its number where it has none. */
export async function groupName(gid: number): Promise<string> {
  const groups = await readFile("/etc/group", "utf8").catch(() => "");
  const entry = groups.split("\n").find((line) => line.split(":")[2] === String(gid));
  return entry?.split(":")[0] ?? String(gid);
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user need not have an entry in passwd(5).
    return String(process.getuid?.() ?? "USER");
  }
}
