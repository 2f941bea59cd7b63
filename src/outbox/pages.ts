/**
 * The pages of an SQLite file and its write-ahead log, read without SQLite: what SQLite refuses to open, or to go on in, can be
 * read here as far as it goes. A page that cannot be read is `undefined`; nothing here throws for what is in the file.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { readWal, type Wal } from "./wal-file.ts";

export const PAGE_BYTES = 4096;

/** Where the 100 bytes of header give the first free-list trunk page, the number of free pages, and the schema's version. */
const HEADER_FREELIST = 32;
const HEADER_FREE_PAGES = 36;
const HEADER_USER_VERSION = 60;

export class Pages {
  readonly #fd: number;
  readonly #logOnly: boolean;
  readonly #wal: Wal | undefined;
  /** Pages of the database, those that only the log holds included. */
  readonly count: number;

  /** `logOnly`: the file itself is not to be believed, as if it could not be read. @throws the system's error where the file cannot be opened */
  constructor(file: string, logOnly = false) {
    this.#fd = openSync(file, "r");
    this.#logOnly = logOnly;
    this.#wal = readWal(`${file}-wal`);
    const inFile = logOnly ? 0 : Math.ceil(fstatSync(this.#fd).size / PAGE_BYTES);
    this.count = Math.max(inFile, this.#wal?.pageCount ?? 0);
  }

  /** The newest committed image of page `number` (from 1); the end of a file that was cut off reads as zeros. */
  page(number: number): Buffer | undefined {
    if (number < 1 || number > this.count) return undefined;
    const logged = this.#wal?.pages.get(number);
    if (logged !== undefined) return logged;
    if (this.#logOnly) return undefined;
    const page = Buffer.alloc(PAGE_BYTES);
    try {
      readSync(this.#fd, page, 0, PAGE_BYTES, (number - 1) * PAGE_BYTES);
      return page;
    } catch {
      return undefined;
    }
  }

  /** `user_version`. */
  schemaVersion(): number {
    return this.page(1)?.readUInt32BE(HEADER_USER_VERSION) ?? 0;
  }

  /** The free pages, and whether all of these are certainly free: what lies on them was deleted. */
  freePages(): { pages: ReadonlySet<number>; complete: boolean } {
    const pages = new Set<number>();
    let next = this.page(1)?.readUInt32BE(HEADER_FREELIST) ?? 0;
    while (next !== 0) {
      const trunk = this.page(next);
      if (trunk === undefined || pages.has(next)) return { pages, complete: this.#logOnly };
      pages.add(next);
      const leaves = trunk.readUInt32BE(4);
      if (leaves > PAGE_BYTES / 4 - 2) return { pages, complete: false };
      for (let leaf = 0; leaf < leaves; leaf++) pages.add(trunk.readUInt32BE(8 + leaf * 4));
      next = trunk.readUInt32BE(0);
    }
    return { pages, complete: this.#logOnly || pages.size === (this.page(1)?.readUInt32BE(HEADER_FREE_PAGES) ?? -1) };
  }

  close(): void {
    closeSync(this.#fd);
  }
}
