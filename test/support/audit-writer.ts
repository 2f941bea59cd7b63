/** A process that writes to an audit trail: `audit-writer FOLDER NAME COUNT`; one line on standard output for each entry that is durable. */
import { systemClock } from "#src/kernel/clock.js";
import { AuditTrail } from "#src/operations/audit/trail.js";

const [folder = "", name = "", times = "0"] = process.argv.slice(2);
// Keeps the process alive: the Clock's timers do not.
const alive = setInterval(() => {}, 1000);
const trail = new AuditTrail({
  folder,
  maxBytes: 2 ** 24,
  clock: systemClock,
  bootId: "boot",
  clockQuality: () => "synchronised",
  onFault: (why) => {
    if (why !== undefined) process.stderr.write(`${why}\n`);
  },
  onDamage: () => process.stderr.write("damage\n"),
});
trail.start();
for (let n = 1; n <= Number(times); n++) {
  trail.record({ action: "key.created", actor: `cli:${name}`, subject: `${name}-${n}` });
  await trail.flush();
  process.stdout.write(`${name}-${n}\n`);
}
await trail.close();
clearInterval(alive);
