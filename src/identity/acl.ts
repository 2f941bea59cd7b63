/**
 * Access rules in mosquitto's syntax (mosquitto.conf(5), `acl_file`). Pure.
 *
 * A line is `user NAME`, `topic [read|write|readwrite|deny] FILTER`, `pattern [read|write|readwrite|deny] FILTER`, or a
 * comment with `#` first. Topics before the first `user` are for clients without a name; patterns are for everybody, with
 * `%u` for the verified name and `%c` for the client id. What no rule allows is denied; the order of the lines says nothing.
 *
 * Where it differs from mosquitto, it is stricter:
 *  - `deny` wins wherever it stands; there a `topic` line of the user's wins over a `pattern deny`;
 *  - a name counts only where a certificate or the password file has verified it;
 *  - what can only be a mistake is an error: `%u` in a `topic` line, a name that nobody can have, an access without a topic.
 *
 * No name and no client id becomes a wildcard or a further level: names cannot hold `+`, `#` or `/`, and a client id that
 * does is denied everything while a pattern uses `%c`.
 */

/** Names that access rules can be about: nothing in them means anything in a topic filter. */
export const IDENTITY_NAME = /^[A-Za-z0-9_-]{1,64}$/;
export const IDENTITY_NAME_RULE = "1 to 64 letters, digits, _ or -";

/** What a rule is applied to. */
export interface AclSubject {
  /** As verified; `undefined` for a client without credentials. */
  readonly name: string | undefined;
  readonly clientId: string;
}

export type AclAccess = "read" | "write" | "readwrite" | "deny";

export interface AclRule {
  readonly access: AclAccess;
  /** Topic filter as written; in a pattern with its placeholders. */
  readonly filter: string;
}

/** What a file says. */
export interface AclRules {
  readonly anonymous: readonly AclRule[];
  readonly users: ReadonlyMap<string, readonly AclRule[]>;
  readonly patterns: readonly AclRule[];
}

/** Something in the file that cannot be understood. */
export interface AclFault {
  /** From 1. */
  readonly line: number;
  readonly message: string;
}

/** Most lines of a file; it is read again while the daemon runs. */
export const MAX_ACL_LINES = 100_000;
const ACCESSES: readonly string[] = ["read", "write", "readwrite", "deny"];
const UNSAFE_CLIENT_ID = /[+#/\0]|^$/;

interface CompiledRule {
  readonly access: AclAccess;
  readonly levels: readonly string[];
}

export class Acl {
  readonly rules: AclRules;
  readonly #usesClientId: boolean;
  /** Expanded once per client: a subject is asked about at every message. */
  readonly #compiled = new WeakMap<AclSubject, readonly CompiledRule[]>();

  constructor(rules: AclRules) {
    this.rules = rules;
    this.#usesClientId = rules.patterns.some(({ filter }) => filter.includes("%c"));
  }

  /** Whether rules use the client id, and this one must not go into them. */
  rejects(clientId: string): boolean {
    return this.#usesClientId && UNSAFE_CLIENT_ID.test(clientId);
  }

  mayPublish(subject: AclSubject, topic: string): boolean {
    return this.#permits(subject, "write", topic);
  }

  mayReceive(subject: AclSubject, topic: string): boolean {
    return this.#permits(subject, "read", topic);
  }

  /**
   * Whether a topic filter covers anything that the subject may read. What else it covers is left to `mayReceive`, message by
   * message: so `#` shows a client all that is meant for it, as mosquitto's users expect.
   */
  maySubscribe(subject: AclSubject, filter: string): boolean {
    if (this.rejects(subject.clientId)) return false;
    const levels = filter.split("/");
    const rules = this.#rulesOf(subject);
    if (rules.some(({ access, levels: denied }) => access === "deny" && includes(denied, levels))) return false;
    return rules.some(({ access, levels: allowed }) => grants(access, "read") && overlap(allowed, levels));
  }

  #permits(subject: AclSubject, wanted: "read" | "write", topic: string): boolean {
    if (this.rejects(subject.clientId)) return false;
    const levels = topic.split("/");
    let granted = false;
    for (const rule of this.#rulesOf(subject)) {
      if (rule.access !== "deny" && (granted || !grants(rule.access, wanted))) continue;
      if (!includes(rule.levels, levels)) continue;
      if (rule.access === "deny") return false;
      granted = true;
    }
    return granted;
  }

  #rulesOf(subject: AclSubject): readonly CompiledRule[] {
    const known = this.#compiled.get(subject);
    if (known !== undefined) return known;
    const compiled = rulesFor(this.rules, subject).map(({ access, filter }) => ({ access, levels: filter.split("/") }));
    this.#compiled.set(subject, compiled);
    return compiled;
  }
}

/** The rules about one client, patterns filled in; what holds for all comes last. */
export function rulesFor({ anonymous, users, patterns }: AclRules, { name, clientId }: AclSubject): AclRule[] {
  const own = name === undefined ? anonymous : (users.get(name) ?? []);
  const filled = patterns
    .filter(({ filter }) => name !== undefined || !filter.includes("%u"))
    // In one pass, so that what was filled in is not looked at again.
    .map(({ access, filter }) => ({
      access,
      filter: filter.replace(/%[cu]/g, (place) => (place === "%c" ? clientId : (name ?? ""))),
    }));
  return [...own, ...filled];
}

function grants(access: AclAccess, wanted: "read" | "write"): boolean {
  return access === wanted || access === "readwrite";
}

/** Whether a filter covers all that another filter, or a topic name, stands for. */
function includes(outer: readonly string[], inner: readonly string[]): boolean {
  for (const [index, level] of outer.entries()) {
    if (level === "#") return true; // `a/#` covers `a` too
    const other = inner[index];
    if (other === undefined || other === "#") return false;
    if (level !== "+" && level !== other) return false;
  }
  return outer.length === inner.length;
}

/** Whether any topic is covered by both filters. */
function overlap(one: readonly string[], other: readonly string[]): boolean {
  for (let index = 0; ; index++) {
    const a = one[index];
    const b = other[index];
    if (a === "#" || b === "#") return true;
    if (a === undefined || b === undefined) return a === b;
    if (a !== "+" && b !== "+" && a !== b) return false;
  }
}

/** Reads a file's text; where anything in it cannot be understood, all such lines. */
export function parseAcl(text: string): { readonly acl: Acl } | { readonly faults: readonly AclFault[] } {
  const anonymous: AclRule[] = [];
  const users = new Map<string, AclRule[]>();
  const patterns: AclRule[] = [];
  const faults: AclFault[] = [];
  let topics: AclRule[] = anonymous;
  const lines = text.replace(/^\ufeff/, "").split("\n");
  if (lines.length > MAX_ACL_LINES) {
    return { faults: [{ line: MAX_ACL_LINES + 1, message: `a file has at most ${MAX_ACL_LINES} lines` }] };
  }
  for (const [index, line] of lines.entries()) {
    const parsed = parseLine(line.trim());
    switch (parsed.kind) {
      case "fault":
        faults.push({ line: index + 1, message: parsed.message });
        break;
      case "user":
        topics = users.get(parsed.name) ?? [];
        users.set(parsed.name, topics);
        break;
      case "topic":
        topics.push(parsed.rule);
        break;
      case "pattern":
        patterns.push(parsed.rule);
    }
  }
  return faults.length > 0 ? { faults } : { acl: new Acl({ anonymous, users, patterns }) };
}

type Line =
  | { readonly kind: "nothing" }
  | { readonly kind: "user"; readonly name: string }
  | { readonly kind: "topic" | "pattern"; readonly rule: AclRule }
  | { readonly kind: "fault"; readonly message: string };

const fault = (message: string): Line => ({ kind: "fault", message });

function parseLine(line: string): Line {
  if (line === "" || line.startsWith("#")) return { kind: "nothing" };
  const [, keyword = "", rest = ""] = /^(\S+)\s*(.*)$/.exec(line) ?? [];
  if (keyword === "user") {
    if (IDENTITY_NAME.test(rest)) return { kind: "user", name: rest };
    return fault(`\`user\` must be followed by a name of ${IDENTITY_NAME_RULE}`);
  }
  if (keyword === "topic" || keyword === "pattern") return parseRule(keyword, rest);
  return fault(`\`${keyword.slice(0, 40)}\` is none of user, topic, pattern (a comment begins with #)`);
}

function parseRule(kind: "topic" | "pattern", rest: string): Line {
  const expected = `${kind} [${ACCESSES.join("|")}] FILTER`;
  const [, first = "", second = ""] = /^(\S*)\s*(.*)$/.exec(rest) ?? [];
  if (first === "" || (second === "" && ACCESSES.includes(first)))
    return fault(`a topic is missing: write \`${expected}\``);
  if (second !== "" && !isAccess(first)) {
    return fault(
      `\`${first.slice(0, 40)}\` is none of ${ACCESSES.join(", ")}; before a topic with spaces one of them must stand`,
    );
  }
  const filter = second === "" ? first : second;
  const access = second !== "" && isAccess(first) ? first : "readwrite";
  // What a reader of UTF-8 puts in the place of bytes that are none: a `deny` with them would match no topic that there is.
  if (filter.includes("\ufffd")) return fault("the topic is not in UTF-8, as topics are: save the file as UTF-8");
  if (kind === "topic" && /%[cu]/.test(filter))
    return fault("%c and %u are filled in by `pattern` lines, not by `topic`");
  if (!isFilter(filter))
    return fault(`\`${filter.slice(0, 80)}\` is no topic filter: + is one whole level, # all the rest, at the end`);
  return { kind, rule: { access, filter } };
}

function isAccess(word: string): word is AclAccess {
  return ACCESSES.includes(word);
}

function isFilter(text: string): boolean {
  const levels = text.split("/");
  return (
    !text.includes("\0") &&
    levels.every((level, index) => (level === "#" ? index === levels.length - 1 : level === "+" || !/[+#]/.test(level)))
  );
}
