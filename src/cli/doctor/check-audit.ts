/** Looks through the audit trail, which the daemon may write meanwhile. */
import { codeOf, messageOf } from "../../kernel/errors.ts";
import { trailFolder } from "../../operations/audit/segments.ts";
import { BROKEN_ADVICE, brokenText, verifyTrail } from "../../operations/audit/verify.ts";
import { count } from "../format.ts";
import { AS_DAEMON, type Finding, ok, warn } from "./finding.ts";

const CHECK = "audit trail";

/** `asDaemon`: whether whoever asks is the daemon's user, or root. */
export async function examineTrail(dataDir: string, asDaemon: boolean): Promise<Finding> {
  const folder = trailFolder(dataDir);
  try {
    const report = await verifyTrail(folder);
    if (!report.ok) return warn(CHECK, brokenText(folder, report), BROKEN_ADVICE);
    return report.entries === 0
      ? ok(CHECK, `${folder} holds nothing yet`)
      : ok(CHECK, `${folder} is whole: ${count(report.entries)} entries`);
  } catch (error) {
    if (codeOf(error) === "EACCES" && !asDaemon) return warn(CHECK, `${folder} cannot be read by this user`, AS_DAEMON);
    return warn(CHECK, `${folder} cannot be read: ${messageOf(error)}`, "See its rights, and that it is a folder.");
  }
}
