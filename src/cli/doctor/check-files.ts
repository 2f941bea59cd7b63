/** The files that the configuration names: certificates, keys, tokens; and the devices of serial ports. Pure. */

import type { NamedCertificate } from "../../identity/certificate-files.ts";
import { documentAt } from "../../kernel/documentation.ts";
import { deviceFileMeant } from "../../kernel/serial-devices.ts";
import { span } from "../format.ts";
import { AS_DAEMON, type Finding, fail, ok, warn } from "./finding.ts";

const DAY_MS = 86_400_000;
/** A certificate ought to have been renewed when two thirds of its life are over; short of this it is urgent. */
const SOON_MS = 30 * DAY_MS;

export interface FileFact {
  /** The key in the configuration. */
  readonly key: string;
  readonly path: string;
  readonly kind: "certificate" | "authority" | "revocations" | "key" | "token" | "passwords" | "rules";
  /** What to do where it is not there, if a command makes it. */
  readonly madeBy?: string;
  /** Why it cannot be read: `ENOENT`, `EACCES`, …; `undefined` where it can. */
  readonly fault?: string;
  /** What keeps the daemon's user from reading it where root asks for another one: the file, or a folder above it. */
  readonly barrier?: string;
  /** Who else may read or change a secret; `undefined` where nobody may. */
  readonly exposed?: string;
  /** In the order of the file; none where it holds none. */
  readonly certificates?: readonly NamedCertificate[];
  /** Why any other file is of no use, where it is not; for a key, with the certificate beside it. */
  readonly useless?: string;
}

/** `now`: wall time, milliseconds. `asDaemon`: whether whoever asks is the daemon's user, or root. */
export function checkFile(file: FileFact, now: number, asDaemon: boolean): Finding {
  const { key, path, fault } = file;
  if (fault === "ENOENT" && path.startsWith("/run/credentials/")) {
    const hint = "Start the service, whose unit needs a LoadCredential= for it.";
    return warn("files", `${key}: ${path} is not there, as systemd puts it there only for a service that runs`, hint);
  }
  if (fault === "ENOENT")
    return fail("files", `${key}: ${path} does not exist`, file.madeBy ?? `Put the file there, or correct ${key}.`);
  if (fault === "EACCES" && !asDaemon) return warn("files", `${key}: ${path} cannot be read by this user`, AS_DAEMON);
  if (fault !== undefined) {
    const hint = `Give it to the daemon's user: chown summit-edge ${path} && chmod 600 ${path}`;
    return fail("files", `${key}: ${path} cannot be read (${fault})`, hint);
  }
  const found = checkContent(file, now);
  return found.level === "ok" && file.barrier !== undefined ? outOfReach(file, file.barrier) : found;
}

function checkContent(file: FileFact, now: number): Finding {
  const { kind } = file;
  if (kind === "revocations") return checkRevocations(file);
  return kind === "certificate" || kind === "authority" ? checkCertificates(file, now) : checkSecret({ ...file, kind });
}

/** A warning only: what further groups the daemon's user has is not known. */
function outOfReach({ key, path }: FileFact, barrier: string): Finding {
  const hint =
    barrier === path
      ? "Give it to that user (chown), or hand it over with LoadCredential= in the unit."
      : `The rights of ${barrier} are in the way: chmod a+x ${barrier}, or put the file elsewhere.`;
  return warn(
    "files",
    `${key}: ${path} may be read by root, and not by the user whom gateway.dataDir belongs to`,
    hint,
  );
}

function checkRevocations({ key, path, useless }: FileFact): Finding {
  if (useless === undefined) return ok("files", `${key}: ${path} can be read`);
  return fail("files", `${key}: ${path} ${useless}`, "Put the authority's list there (openssl ca -gencrl), in PEM.");
}

function checkCertificates({ key, path, kind, certificates = [] }: FileFact, now: number): Finding {
  const [first] = certificates;
  if (first === undefined)
    return fail("files", `${key}: ${path} holds no certificate in PEM`, `Name a PEM file in ${key}.`);
  // A server shows its own certificate first; of several authorities any may be the one that is needed.
  const looked = kind === "certificate" ? [first] : certificates;
  const ends = looked.reduce((a, b) => (b.notAfter < a.notAfter ? b : a));
  const begins = looked.reduce((a, b) => (b.notBefore > a.notBefore ? b : a));
  const renew = "Renew the certificate; the daemon takes up the new file by itself.";
  if (ends.notAfter <= now) return fail("files", `${key}: ${ends.subject} expired on ${day(ends.notAfter)}`, renew);
  if (begins.notBefore > now) {
    const detail = `${key}: ${begins.subject} is valid only from ${day(begins.notBefore)} on`;
    return fail("files", detail, "Look at this machine's clock first (timedatectl), then at the certificate.");
  }
  const left = ends.notAfter - now;
  const detail = `${key}: ${ends.subject} is valid for another ${span(left / 1000)}`;
  const isLate = left < SOON_MS && left < (ends.notAfter - ends.notBefore) / 3;
  return isLate ? warn("files", detail, renew) : ok("files", detail);
}

const MENDING = {
  key: "Put the private key there (PEM) that belongs to the certificate.",
  token: "Write the token into it, one line of ASCII text.",
  passwords: "Mend the line, or take it out and add the device again: summit-edge devices add.",
  rules: `Mend the line; ${documentAt("docs/access.md")} has the syntax.`,
};

function checkSecret({ key, path, kind, exposed, useless }: FileFact & { kind: keyof typeof MENDING }): Finding {
  if (useless !== undefined) {
    return fail("files", `${key}: ${path} ${useless}`, MENDING[kind]);
  }
  if (exposed !== undefined) return warn("files", `${key}: ${path} is a secret, and ${exposed}`, `chmod 600 ${path}`);
  return ok("files", `${key}: ${path} can be read`);
}

const day = (time: number): string => new Date(time).toISOString().slice(0, 10);

export interface SerialFact {
  readonly name: string;
  readonly path: string;
  /**
   * `open`: the running daemon has it; `network`: at the other end of a connection, not looked at; `ambiguous`: several adapters fit;
   * `held`: another program keeps it to itself.
   */
  readonly state: "open" | "network" | "missing" | "ambiguous" | "no-device" | "denied" | "held" | "usable";
  /** The group that the device belongs to, where it is known. */
  readonly group?: string;
  /** Which adapters fit, or who holds it. */
  readonly detail?: string;
}

/** What `run` would find of a port. Nothing here keeps the gateway from starting: it opens a port as soon as it can. */
export function checkSerial({ name, path, state, group, detail = "" }: SerialFact, asDaemon: boolean): Finding {
  const check = `serial ${name}`;
  const belongs = group === undefined ? "" : `; it belongs to group ${group}`;
  switch (state) {
    case "open":
      return ok(check, `${path} is open in the daemon`);
    case "network":
      return ok(check, `${path} is on the network; not looked at`);
    case "usable":
      return ok(check, `${path} can be opened${belongs}`);
    case "missing": {
      const meant = deviceFileMeant(path);
      if (meant !== undefined)
        return warn(check, `${path} is not there`, `A device file is named in full: write ${meant}.`);
      const hint = "Plug it in, or correct its path or match: summit-edge doctor serial lists what is there.";
      return warn(check, `${path} is not there now; the gateway opens it as soon as it is`, hint);
    }
    case "ambiguous":
      return fail(check, detail, "summit-edge doctor serial lists them, with the name to use for each.");
    case "held":
      return warn(
        check,
        `${path} is in use by ${detail}`,
        "End that program; the gateway opens the port as soon as it is free.",
      );
    case "no-device":
      return fail(check, `${path} is not a device`, "Name a device file: summit-edge doctor serial lists them.");
    case "denied": {
      if (!asDaemon) return warn(check, `${path} cannot be opened by this user${belongs}`, AS_DAEMON);
      const hint = `Add the daemon's user to that group (usermod -aG ${group ?? "dialout"} …), or to SupplementaryGroups= in its unit.`;
      return fail(check, `${path} cannot be opened${belongs}`, hint);
    }
  }
}
