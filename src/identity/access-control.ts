/**
 * The access policy in force: from the configuration, and from the password and access files, which may change while the
 * daemon runs. Who asks gets today's answer; who has been let in is told when the policy is another one.
 *
 * It keeps the decision (`access.ts`) and the verification of passwords together, and decides nothing itself.
 */
import type { MqttConfig } from "../config/schema.ts";
import { documentAt } from "../kernel/documentation.ts";
import { codeOf, GatewayError } from "../kernel/errors.ts";
import type { FileContent, FileMaterial, Reloads } from "../kernel/reloading.ts";
import {
  type AccessDecision,
  type AccessPolicy,
  type AccessRequest,
  type ClientIdentity,
  decide,
  ownSource,
} from "./access.ts";
import { type Acl, parseAcl } from "./acl.ts";
import { PasswordCheck, type PasswordEntries, parsePasswords } from "./passwords.ts";

/** What a client shows when it connects. */
export interface Credentials {
  readonly clientId: string;
  readonly clientIdGiven: boolean;
  readonly username: string | undefined;
  readonly password: Buffer | undefined;
  readonly certificateName: string | undefined;
  readonly loopback: boolean;
  /** Where it comes from. */
  readonly address: string;
}

/** What becomes of a login that has to wait for its turn to be verified. */
export interface LoginQueue {
  /** Ends the wait. */
  readonly signal: AbortSignal;
  /** It has to wait for others. */
  readonly waits: () => void;
  /** Its turn has come. */
  readonly begins: () => void;
}

type AccessConfig = Pick<MqttConfig, "anonymous" | "passwordFile" | "aclFile" | "sources">;

/** Faults of a file that are named in one message. */
const FAULTS_SHOWN = 20;

export class AccessControl {
  readonly #passwords: PasswordCheck;
  #policy: AccessPolicy;
  #changed: (() => void) | undefined;

  constructor(policy: AccessPolicy, passwords = new PasswordCheck()) {
    this.#policy = policy;
    this.#passwords = passwords;
  }

  /**
   * The policy of a configuration, which follows its files from now on.
   * @throws GatewayError where a file cannot be read or understood
   */
  static async open(config: AccessConfig, reloads: Reloads): Promise<AccessControl> {
    const control = new AccessControl({ anonymous: config.anonymous, sources: namesOf(config.sources) });
    const { passwordFile, aclFile } = config;
    if (passwordFile !== undefined) {
      const opening = reloads.open({
        ...passwordMaterial(passwordFile),
        condition: { component: "mqtt", code: "password-file" },
        put: (next) => control.change({ users: next }),
      });
      const users = await opening.catch(withAdvice);
      control.change({ users: users.current });
    }
    if (aclFile !== undefined) {
      const rules = await reloads.open({
        ...aclMaterial(aclFile),
        condition: { component: "mqtt", code: "acl-file" },
        put: (next) => control.change({ acl: next }),
      });
      control.change({ acl: rules.current });
    }
    return control;
  }

  /** Puts a part of the policy in place of the one before, for everything that is asked from now on. */
  change(part: Partial<AccessPolicy>): void {
    this.#policy = { ...this.#policy, ...part };
    this.#changed?.();
  }

  /** Calls `listener` whenever the policy has changed; there is one. */
  onChange(listener: () => void): void {
    this.#changed = listener;
  }

  decide(request: AccessRequest): AccessDecision {
    return decide(request, this.#policy);
  }

  /** The source of a client's readings that name none. */
  ownSource(identity: ClientIdentity): string {
    return ownSource(identity, this.#policy);
  }

  /**
   * Who a client is, by what it shows; its password is verified where there are any to verify. A certificate's name is
   * enough: a user name beside it is not looked at. `busy`: too many wait to be verified, and it had better come again.
   */
  async identify(credentials: Credentials, queue: LoginQueue): Promise<ClientIdentity | "busy"> {
    const { clientId, clientIdGiven, username, password = Buffer.alloc(0) } = credentials;
    const { certificateName, loopback, address } = credentials;
    const { users } = this.#policy;
    const shows = certificateName === undefined && username !== undefined && users !== undefined;
    const verified = shows
      ? await this.#passwords.verify(users, { ...queue, user: username, password, address })
      : undefined;
    if (verified === "busy") return verified;
    const credential = typeof verified === "object" ? verified.entry : undefined;
    const name = certificateName ?? (credential === undefined ? undefined : username);
    return { clientId, clientIdGiven, username, credential, certificateName, name, loopback };
  }
}

/** What the users are made of. */
export const passwordMaterial = (passwordFile: string): FileMaterial<PasswordEntries, { passwordFile: string }> => ({
  section: "mqtt",
  files: { passwordFile },
  load: (files) => readPasswords(files.passwordFile),
});

/** What the access rules are made of. */
export const aclMaterial = (aclFile: string): FileMaterial<Acl, { aclFile: string }> => ({
  section: "mqtt",
  files: { aclFile },
  load: (files) => readAcl(files.aclFile),
});

/** On the first start there may be no password file yet. */
function withAdvice(fault: unknown): never {
  if (!(fault instanceof GatewayError) || codeOf(fault.cause) !== "ENOENT") throw fault;
  throw new GatewayError({
    code: fault.code,
    op: fault.op,
    message: fault.message,
    hint: "Make it with summit-edge devices add NAME --generate, or leave mqtt.passwordFile out.",
    cause: fault.cause,
  });
}

/** What each name may speak for, beside itself. */
function namesOf(sources: AccessConfig["sources"]): ReadonlyMap<string, RegExp> {
  const names = new Map<string, string[]>();
  for (const { user, names: more } of sources) names.set(user, [...(names.get(user) ?? []), ...more]);
  return new Map([...names].map(([user, each]) => [user, matching(each)]));
}

function matching(names: readonly string[]): RegExp {
  const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^(?:${names.map((name) => name.split("*").map(literal).join(".*")).join("|")})$`, "su");
}

/** @throws GatewayError PASSWORD_FILE_INVALID */
export function readPasswords({ path, content }: Pick<FileContent, "path" | "content">): PasswordEntries {
  const parsed = parsePasswords(content.toString("utf8"));
  if ("entries" in parsed) return parsed.entries;
  throw faulty(
    "PASSWORD_FILE_INVALID",
    path,
    parsed.faults,
    "Mend these lines, or take them out and add the devices again.",
  );
}

/** @throws GatewayError ACL_FILE_INVALID */
export function readAcl({ path, content }: Pick<FileContent, "path" | "content">): Acl {
  const parsed = parseAcl(content.toString("utf8"));
  if ("acl" in parsed) return parsed.acl;
  throw faulty(
    "ACL_FILE_INVALID",
    path,
    parsed.faults,
    `Mend these lines; ${documentAt("docs/access.md")} has the syntax.`,
  );
}

function faulty(
  code: string,
  path: string,
  faults: readonly { readonly line: number; readonly message: string }[],
  hint: string,
): GatewayError {
  const shown = faults.slice(0, FAULTS_SHOWN).map(({ line, message }) => `line ${line}: ${message}`);
  const more = faults.length > FAULTS_SHOWN ? [`and ${faults.length - FAULTS_SHOWN} more`] : [];
  return new GatewayError({ code, op: "access.load", message: `${path}: ${[...shown, ...more].join("; ")}`, hint });
}
