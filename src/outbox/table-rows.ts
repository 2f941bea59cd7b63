/**
 * The rows of an SQLite file's tables, read from its pages without SQLite
 * (https://sqlite.org/fileformat2.html#b_tree_pages): all that can be reached from a table's root, and then what lies on leaf
 * pages that nothing leads to any more because the page above them is damaged.
 *
 * It believes nothing: a row may be nonsense, or one that was deleted long ago. A row that does not come from a sound
 * page in its place is marked `doubtful`. Whoever asks judges by checksums and shapes. Tables with rowids only.
 */
import { PAGE_BYTES, type Pages } from "./pages.ts";

export type Value = null | number | string | Buffer;

export interface Row {
  readonly rowid: number;
  readonly values: readonly Value[];
  readonly doubtful: boolean;
}

const LEAF = 0x0d;
const INTERIOR = 0x05;
const FILE_HEADER_BYTES = 100;
const LEAF_HEADER_BYTES = 8;
const INTERIOR_HEADER_BYTES = 12;
/** A b-tree of 2^31 pages is not deeper. */
const MAX_DEPTH = 20;
/** What a row keeps on its leaf page: all up to the first bound, else something from the second on. */
const MAX_LOCAL = PAGE_BYTES - 35;
const MIN_LOCAL = Math.floor(((PAGE_BYTES - 12) * 32) / 255) - 23;
const OVERFLOW_BYTES = PAGE_BYTES - 4;

/** The rowids that belong below a page: above `over`, up to `through`. */
interface Bounds {
  readonly over: number;
  readonly through: number;
}

export class TableRows {
  readonly #pages: Pages;
  readonly #visited = new Set<number>();
  readonly #free: ReadonlySet<number>;

  constructor(pages: Pages) {
    this.#pages = pages;
    const { pages: free, complete } = pages.freePages();
    // A damaged free list names pages that are in use.
    this.#free = complete ? free : new Set();
  }

  /** The rows below a root page, in order as far as the tree is whole. */
  *below(root: number): Generator<Row> {
    yield* this.#tree(root, { over: Number.NEGATIVE_INFINITY, through: Number.POSITIVE_INFINITY }, 0);
  }

  /** Notes a tree's pages as reached, without reading its rows. */
  pass(root: number): void {
    const next = [root];
    for (let number = next.pop(); number !== undefined; number = next.pop()) {
      if (this.#visited.has(number) || this.#free.has(number)) continue;
      const page = this.#pages.page(number);
      if (page === undefined) continue;
      this.#visited.add(number);
      if (page[0] === INTERIOR) next.push(...children(page, 0).map(({ child }) => child), page.readUInt32BE(8));
    }
  }

  /** The rows of leaf pages that are neither free nor were reached by `below` or `pass`. */
  *adrift(): Generator<Row> {
    for (let number = 2; number <= this.#pages.count; number++) {
      if (this.#visited.has(number) || this.#free.has(number)) continue;
      const page = this.#pages.page(number);
      if (page?.[0] !== LEAF) continue;
      for (const row of this.#leaf(page, 0).rows) yield { ...row, doubtful: true };
    }
  }

  *#tree(number: number, bounds: Bounds, depth: number): Generator<Row> {
    if (this.#visited.has(number) || this.#free.has(number) || depth > MAX_DEPTH) return;
    const page = this.#pages.page(number);
    if (page === undefined) return;
    this.#visited.add(number);
    const start = number === 1 ? FILE_HEADER_BYTES : 0;
    if (page[start] === INTERIOR) {
      yield* this.#interior(page, start, bounds, depth);
      return;
    }
    const { rows, sound } = this.#leaf(page, start);
    for (const row of rows) {
      const inPlace = row.rowid > bounds.over && row.rowid <= bounds.through;
      yield { ...row, doubtful: !sound || !inPlace };
    }
  }

  *#interior(page: Buffer, start: number, bounds: Bounds, depth: number): Generator<Row> {
    let over = bounds.over;
    for (const { child, through = bounds.through } of children(page, start)) {
      yield* this.#tree(child, { over, through }, depth + 1);
      over = through;
    }
    yield* this.#tree(page.readUInt32BE(start + 8), { over, through: bounds.through }, depth + 1);
  }

  /** Whatever the page says of itself, its cells are tried. */
  #leaf(page: Buffer, start: number): { rows: Omit<Row, "doubtful">[]; sound: boolean } {
    const count = page.readUInt16BE(start + 3);
    const room = Math.floor((PAGE_BYTES - start - LEAF_HEADER_BYTES) / 2);
    let sound = page[start] === LEAF && count <= room;
    const rows: Omit<Row, "doubtful">[] = [];
    for (let cell = 0; cell < Math.min(count, room); cell++) {
      const row = this.#row(page, page.readUInt16BE(start + LEAF_HEADER_BYTES + cell * 2));
      if (row === undefined || row.rowid <= (rows.at(-1)?.rowid ?? Number.NEGATIVE_INFINITY)) sound = false;
      if (row !== undefined) rows.push(row);
    }
    return { rows, sound };
  }

  #row(page: Buffer, at: number): Omit<Row, "doubtful"> | undefined {
    const [length, afterLength] = varint(page, at) ?? [];
    if (length === undefined || afterLength === undefined || length > this.#pages.count * PAGE_BYTES) return undefined;
    const [rowid, begin] = varint(page, afterLength) ?? [];
    if (rowid === undefined || begin === undefined) return undefined;
    const payload = this.#payload(page, begin, length);
    const values = payload === undefined ? undefined : recordOf(payload);
    return values === undefined ? undefined : { rowid, values };
  }

  #payload(page: Buffer, begin: number, length: number): Buffer | undefined {
    const wrapped = MIN_LOCAL + ((length - MIN_LOCAL) % OVERFLOW_BYTES);
    const local = length <= MAX_LOCAL ? length : wrapped <= MAX_LOCAL ? wrapped : MIN_LOCAL;
    const spills = local < length;
    if (begin + local + (spills ? 4 : 0) > PAGE_BYTES) return undefined;
    if (!spills) return page.subarray(begin, begin + local);
    const parts = [page.subarray(begin, begin + local)];
    let next = page.readUInt32BE(begin + local);
    for (let rest = length - local; rest > 0; rest -= OVERFLOW_BYTES) {
      const overflow = this.#pages.page(next);
      if (overflow === undefined) return undefined;
      parts.push(overflow.subarray(4, 4 + Math.min(rest, OVERFLOW_BYTES)));
      next = overflow.readUInt32BE(0);
    }
    return Buffer.concat(parts, length);
  }
}

/** What an interior page's cells lead to, and the highest rowid there; the last child stands in the page's header. */
function children(page: Buffer, start: number): { child: number; through: number | undefined }[] {
  const count = Math.min(page.readUInt16BE(start + 3), (PAGE_BYTES - start - INTERIOR_HEADER_BYTES) / 2);
  return Array.from({ length: Math.floor(count) }, (_, cell) =>
    page.readUInt16BE(start + INTERIOR_HEADER_BYTES + cell * 2),
  )
    .filter((at) => at + 4 < PAGE_BYTES)
    .map((at) => ({ child: page.readUInt32BE(at), through: varint(page, at + 4)?.[0] }));
}

/** A variable-length integer and where it ends; `undefined` where it leaves the bytes or JavaScript's exact integers. */
function varint(bytes: Buffer, at: number): [value: number, end: number] | undefined {
  let value = 0n;
  for (let length = 1; length <= 9; length++) {
    const byte = bytes[at + length - 1];
    if (byte === undefined) return undefined;
    if (length === 9) value = (value << 8n) | BigInt(byte);
    else value = (value << 7n) | BigInt(byte & 0x7f);
    if (length === 9 || byte < 0x80) {
      const number = Number(BigInt.asIntN(64, value));
      return Number.isSafeInteger(number) ? [number, at + length] : undefined;
    }
  }
  return undefined;
}

/** Bytes of an integer, by its serial type. */
const INTEGER_BYTES = [0, 1, 2, 3, 4, 6, 8];

function recordOf(payload: Buffer): Value[] | undefined {
  const [headerEnd, first] = varint(payload, 0) ?? [];
  if (headerEnd === undefined || first === undefined || headerEnd > payload.length) return undefined;
  const values: Value[] = [];
  let at = headerEnd;
  for (let header = first; header < headerEnd; ) {
    const [type, next] = varint(payload, header) ?? [];
    if (type === undefined || next === undefined) return undefined;
    header = next;
    const length = type >= 12 ? Math.floor((type - 12) / 2) : type === 7 ? 8 : (INTEGER_BYTES[type] ?? 0);
    if (at + length > payload.length) return undefined;
    const value = decoded(type, payload.subarray(at, at + length));
    if (value === undefined) return undefined;
    values.push(value);
    at += length;
  }
  return values;
}

function decoded(type: number, bytes: Buffer): Value | undefined {
  if (type >= 12) return type % 2 === 0 ? bytes : bytes.toString("utf8");
  switch (type) {
    case 0:
      return null;
    case 7:
      return bytes.readDoubleBE();
    case 8:
      return 0;
    case 9:
      return 1;
    case 10:
    case 11:
      return undefined;
  }
  if (bytes.length <= 6) return bytes.readIntBE(0, bytes.length);
  const value = Number(bytes.readBigInt64BE());
  return Number.isSafeInteger(value) ? value : undefined;
}
