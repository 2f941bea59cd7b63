/** A machine's wall clock in a test's hands: libfaketime moves it for one program and leaves the monotonic clock alone. */
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const LIBRARIES = "/usr/lib";

/** The library for programs with several threads; Debian's package `faketime` has it. */
function library(): string | undefined {
  return readdirSync(LIBRARIES)
    .map((folder) => join(LIBRARIES, folder, "faketime", "libfaketimeMT.so.1"))
    .find((file) => existsSync(file));
}

/** Why a test that moves the clock is skipped; `false` where it is not. */
export const skipWithoutFaketime = library() === undefined ? "libfaketime is not installed" : false;

/** From 1980-01-06, where a GPS receiver's weeks begin, to now, in seconds. */
export const secondsSince1980 = (): number => (Date.now() - Date.UTC(1980, 0, 6)) / 1000;

export class MachineClock {
  readonly #folder: string;

  /** Its files lie in `folder`. The clock is right, and nobody calls it synchronised. */
  constructor(folder: string) {
    this.#folder = join(folder, "machine-clock");
    const programs = join(this.#folder, "bin");
    mkdirSync(programs, { recursive: true });
    const timedatectl = `#!/bin/sh\nexec /bin/cat '${this.#file("synchronised")}'\n`;
    writeFileSync(join(programs, "timedatectl"), timedatectl, { mode: 0o755 });
    this.set(0);
    this.synchronised = false;
  }

  /** What to start a program under: `env` with what it takes. Its PATH holds a `timedatectl` and nothing else. */
  get under(): string[] {
    return [
      "/usr/bin/env",
      `PATH=${join(this.#folder, "bin")}`,
      `LD_PRELOAD=${library()}`,
      "FAKETIME_DONT_FAKE_MONOTONIC=1",
      "DONT_FAKE_MONOTONIC=1",
      "NO_FAKE_STAT=1",
      "FAKETIME_NO_CACHE=1",
      `FAKETIME_TIMESTAMP_FILE=${this.#file("offset")}`,
    ];
  }

  /** Sets the clock to this many seconds from the right time. */
  set(seconds: number): void {
    this.#write("offset", `${seconds < 0 ? "-" : "+"}${Math.abs(Math.trunc(seconds))}`);
  }

  /** What `timedatectl` says from now on. */
  set synchronised(synchronised: boolean) {
    this.#write("synchronised", synchronised ? "yes" : "no");
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  /** Whole or not at all: the program may be reading. */
  #write(name: string, text: string): void {
    writeFileSync(this.#file(`${name}.new`), `${text}\n`);
    renameSync(this.#file(`${name}.new`), this.#file(name));
  }
}
