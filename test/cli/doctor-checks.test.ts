import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  checkConditions,
  checkDaemon,
  checkOutbox,
  checkOutboxFile,
  checkWear,
  type DaemonFact,
} from "#src/cli/doctor/check-daemon.js";
import { checkFile, checkSerial, type FileFact } from "#src/cli/doctor/check-files.js";
import { checkClock, checkDataDir, checkFileSystem, checkNode, checkSpace } from "#src/cli/doctor/check-host.js";
import { checkPort, checkUplink } from "#src/cli/doctor/check-network.js";
import type { Finding, Level } from "#src/cli/doctor/finding.js";
import { lockHolderIn } from "#src/cli/doctor/probe-daemon.js";
import { probeFiles } from "#src/cli/doctor/probe-files.js";
import { probeDataDir } from "#src/cli/doctor/probe-host.js";
import { listeningIn } from "#src/cli/doctor/probe-network.js";
import { loadConfig } from "#src/config/load.js";
import { systemClock } from "#src/kernel/clock.js";
import { assessHealth } from "#src/operations/health.js";
import { statusOf } from "#src/operations/status.js";
import type { FileState } from "#src/outbox/file-state.js";
import { MemoryGatewayView } from "../support/memory-view.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const notRoot = process.getuid?.() === 0 ? false : "wants root";
const NOON = Date.UTC(2026, 6, 1, 12);
const DAY_MS = 86_400_000;
const GIB = 2 ** 30;
const CLOSED: FileState = { state: "closed", size: GIB, changed: "1" };
const FILE = {
  path: "/data/outbox.db",
  exists: true,
  bytes: GIB,
  walBytes: 0,
  maxBytes: 2 * GIB,
  state: CLOSED,
  untouched: true,
};

const statusNow = (view: MemoryGatewayView) =>
  statusOf(view, assessHealth(view, NOON), { now: NOON, monotonic: systemClock.monotonic() });

/** That a finding has this level, says this, and, unless all is well, what to do. */
function finds(finding: Finding, level: Level, wanted: RegExp): void {
  assert.equal(finding.level, level, finding.detail);
  assert.match(`${finding.detail}. ${finding.hint ?? ""}`, wanted);
  assert.equal(finding.hint === undefined, level === "ok", "a hint where there is something to mend, and only there");
  assert.doesNotMatch(`${finding.detail}${finding.hint ?? ""}`, /\n/, "one line");
}

describe("doctor finds of the machine", () => {
  test("a Node.js that is too old", () => {
    for (const version of ["v18.20.4", "v20.18.3"]) finds(checkNode(version), "fail", /older than 20\.19.*Install/);
    for (const version of ["v20.19.0", "v22.1.0", "v24.4.1"]) finds(checkNode(version), "ok", /Node\.js v2/);
  });

  test("a clock that is not set, not synchronised, or was stepped", () => {
    finds(checkClock("synchronised", NOON), "ok", /2026-07-01 12:00 UTC/);
    finds(checkClock("unsynchronised", NOON), "warn", /not synchronised.*timedatectl/);
    finds(checkClock("stepped", NOON), "warn", /was set while/);
    finds(checkClock("synchronised", Date.UTC(1980, 0, 6)), "fail", /1980-01-06/);
  });

  test("a data folder that cannot be written", () => {
    const facts = { path: "/data/edge", nearest: "/data/edge", writeFault: undefined, asDaemon: true };
    finds(checkDataDir(facts), "ok", /can be written/);
    finds(checkDataDir({ ...facts, nearest: "/data" }), "ok", /the daemon makes it/);
    finds(checkDataDir({ ...facts, writeFault: "EACCES" }), "fail", /\/data\/edge cannot be written \(EACCES\).*chown/);
    finds(checkDataDir({ ...facts, writeFault: "EACCES", asDaemon: false }), "warn", /by this user.*sudo/);
    finds(checkDataDir({ ...facts, writeFault: "EROFS" }), "fail", /read-only.*dmesg/);
    finds(checkDataDir({ ...facts, writeFault: "EROFS", foreign: ["lock"] }), "fail", /read-only/);
    finds(checkDataDir({ ...facts, foreign: ["lock"] }), "warn", /^lock in \/data\/edge does not belong.*chown/);
  });

  test("a file system that keeps nothing, or not for long", () => {
    finds(checkFileSystem(0xef53, "/data"), "ok", /ext4/);
    finds(checkFileSystem(0x01021994, "/data"), "fail", /in memory \(tmpfs\)/);
    finds(checkFileSystem(0x6969, "/data"), "fail", /on the network \(NFS\)/);
    finds(checkFileSystem(0x794c7630, "/data"), "warn", /overlay/);
    finds(checkFileSystem(0x4d44, "/data"), "warn", /FAT/);
    finds(checkFileSystem(0x858458f6 | 0, "/data"), "fail", /ramfs/);
    finds(checkFileSystem(0x1234, "/data"), "ok", /type 0x1234/);
  });

  test("a disk that is too small for what the configuration promises", () => {
    const facts = { freeFiles: 1000, outboxBytes: 0.5 * GIB, maxBytes: 2 * GIB, reserveFreeDisk: 0.25 * GIB };
    finds(checkSpace({ ...facts, freeBytes: 1.75 * GIB }), "ok", /1\.8 GiB free/);
    finds(checkSpace({ ...facts, freeBytes: 1.7 * GIB }), "warn", /too little.*outbox\.maxBytes \(2\.0 GiB\)/);
    finds(checkSpace({ ...facts, freeBytes: 0.2 * GIB }), "fail", /does not grow.*du/);
    finds(checkSpace({ ...facts, freeBytes: 9 * GIB, freeFiles: 0 }), "fail", /inode/);
    finds(checkSpace({ ...facts, freeBytes: 9 * GIB, freeFiles: undefined }), "ok", /enough/);
  });
});

test("root learns of what the daemon's user can neither read nor write", { skip: notRoot }, async (t) => {
  const root = temporaryFolder(t);
  chmodSync(root, 0o755);
  const [dataDir, aclFile, config] = ["data", "acl", "gateway.yaml"].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(dataDir);
  for (const path of [dataDir, join(dataDir, "outbox.db"), join(dataDir, "mine")]) {
    if (path !== dataDir) writeFileSync(path, "");
    chownSync(path, 65534, 65534);
  }
  for (const name of ["lock", "outbox.db.state", "notes"]) writeFileSync(join(dataDir, name), "");
  assert.deepEqual((await probeDataDir(dataDir)).foreign, ["lock", "outbox.db.state"]);
  writeFileSync(aclFile, "topic read #\n", { mode: 0o600 });
  writeFileSync(config, JSON.stringify({ gateway: { dataDir }, mqtt: { aclFile } }));
  const barriers = async () => (await probeFiles(await loadConfig(config, {}))).map(({ barrier }) => barrier);
  assert.deepEqual(await barriers(), [aclFile]);
  chmodSync(aclFile, 0o644);
  assert.deepEqual(await barriers(), [undefined]);
});

describe("doctor finds of files", () => {
  const file: FileFact = { key: "uplink.tls.certFile", path: "/c.pem", kind: "certificate" };
  const certificate = (fromDays: number, toDays: number) => ({
    subject: "CN=sierra-014",
    notBefore: NOON + fromDays * DAY_MS,
    notAfter: NOON + toDays * DAY_MS,
  });
  const certified = (...certificates: ReturnType<typeof certificate>[]) =>
    checkFile({ ...file, certificates }, NOON, true);

  test("certificates that have ended, have not begun, or are late", () => {
    finds(certified(certificate(-300, 65)), "ok", /CN=sierra-014 is valid for another 65 d/);
    finds(certified(certificate(-345, 20)), "warn", /another 20 d.*Renew/);
    finds(certified(certificate(-1, 20)), "ok", /another 20 d/);
    finds(certified(certificate(-400, -1)), "fail", /expired on 2026-06-30.*Renew/);
    finds(certified(certificate(1, 400)), "fail", /valid only from 2026-07-02 on.*clock first/);
    finds(certified(), "fail", /no certificate in PEM/);
    finds(certified(certificate(-1, 300), certificate(-400, -1)), "ok", /another 300 d/);
    const authorities = [certificate(-1, 300), certificate(-400, -1)];
    finds(checkFile({ ...file, kind: "authority", certificates: authorities }, NOON, true), "fail", /expired/);
  });

  test("files that are not there, cannot be read, or can be read by everybody", () => {
    finds(
      checkFile({ ...file, fault: "ENOENT" }, NOON, true),
      "fail",
      /uplink\.tls\.certFile: \/c\.pem does not exist/,
    );
    const secret = { ...file, path: "/run/credentials/summit-edge.service/token", fault: "ENOENT" };
    finds(checkFile(secret, NOON, true), "warn", /only for a service that runs.*LoadCredential=/);
    finds(checkFile({ ...file, fault: "EACCES" }, NOON, true), "fail", /EACCES.*chown/);
    finds(checkFile({ ...file, fault: "EACCES" }, NOON, false), "warn", /by this user/);
    const exposed = "everybody on this machine may read it";
    finds(checkFile({ ...file, kind: "key", exposed }, NOON, true), "warn", /everybody.*chmod 600 \/c\.pem/);
    finds(checkFile({ ...file, kind: "key" }, NOON, true), "ok", /can be read/);
    finds(checkFile({ ...file, kind: "key", useless: "does not belong to /d.pem" }, NOON, true), "fail", /\/d\.pem/);
    finds(checkFile({ ...file, kind: "token", useless: "does not hold a token" }, NOON, true), "fail", /one line/);
    finds(checkFile({ ...file, kind: "passwords", useless: "x, line 3" }, NOON, true), "fail", /devices add/);
    finds(checkFile({ ...file, kind: "rules", useless: "x, line 3" }, NOON, true), "fail", /docs\/access\.md/);
    finds(checkFile({ ...file, kind: "rules" }, NOON, true), "ok", /can be read/);
    const rules: FileFact = { ...file, kind: "rules" };
    finds(checkFile({ ...rules, barrier: "/c.pem" }, NOON, true), "warn", /read by root, and not by.*\(chown\)/);
    finds(checkFile({ ...rules, barrier: "/" }, NOON, true), "warn", /rights of \/ are in the way/);
    finds(checkFile({ ...rules, barrier: "/", useless: "x, line 3" }, NOON, true), "fail", /line 3/);
  });

  test("serial devices that are missing, are none, or belong to a group", () => {
    const port = { name: "mast", path: "/dev/ttyUSB0", group: "dialout" };
    finds(checkSerial({ ...port, state: "open" }, true), "ok", /open in the daemon/);
    finds(checkSerial({ ...port, state: "usable" }, true), "ok", /group dialout/);
    // It starts all the same, and opens them when it can.
    finds(checkSerial({ ...port, state: "missing" }, true), "warn", /not there now; .* as soon as it is/);
    for (const path of ["ttyUSB0", "dev/ttyUSB0"])
      finds(checkSerial({ ...port, path, state: "missing" }, true), "warn", /in full: write \/dev\/ttyUSB0\.$/);
    for (const path of ["./mast", "USB 0403:6001"])
      finds(checkSerial({ ...port, path, state: "missing" }, true), "warn", /Plug it in/);
    finds(checkSerial({ ...port, state: "held", detail: "picocom (process 7)" }, true), "warn", /in use by picocom/);
    finds(checkSerial({ ...port, state: "ambiguous", detail: "2 adapters are x" }, true), "fail", /2 adapters/);
    finds(checkSerial({ ...port, state: "no-device" }, true), "fail", /not a device/);
    finds(checkSerial({ ...port, state: "denied" }, true), "fail", /group dialout.*usermod -aG dialout/);
    finds(checkSerial({ ...port, state: "denied" }, false), "warn", /by this user/);
    finds(checkSerial({ ...port, state: "network" }, true), "ok", /on the network/);
  });
});

describe("doctor finds of the network", () => {
  test("ports that are taken, forbidden, elsewhere, or not open although the daemon runs", () => {
    const port = { key: "mqtt.listeners[0]", bind: "0.0.0.0", port: 1883 };
    finds(checkPort({ ...port, state: "free" }, false), "ok", /is free/);
    finds(checkPort({ ...port, state: "taken" }, false), "fail", /another program.*change mqtt\.listeners\[0\]\.port/);
    finds(checkPort({ ...port, state: "EACCES" }, false), "fail", /above 1023/);
    finds(checkPort({ ...port, state: "EADDRNOTAVAIL" }, false), "fail", /listeners\[0\]\.bind/);
    finds(checkPort({ ...port, state: "taken" }, true), "ok", /is open/);
    finds(checkPort({ ...port, state: "free" }, true), "fail", /although the daemon runs/);
    finds(checkPort({ ...port, port: 0, state: "free" }, true), "ok", /any free port/);
  });

  test("how far the way to fusion goes, and what each end of it means", () => {
    const at = { host: "fusion.example", port: 443 };
    finds(checkUplink({ kind: "none" }, NOON), "warn", /uplink\.url/);
    finds(checkUplink({ kind: "unresolved", host: at.host, code: "ENOTFOUND" }, NOON), "fail", /resolvectl/);
    finds(checkUplink({ kind: "unconnected", ...at, code: "ETIMEDOUT" }, NOON), "fail", /port 443 \(ETIMEDOUT\)/);
    finds(checkUplink({ kind: "unready", ...at, detail: "ENOENT" }, NOON), "warn", /TLS was not tried/);
    const refused = (code: string) => checkUplink({ kind: "refused", host: at.host, code, detail: "d" }, NOON);
    finds(refused("SELF_SIGNED_CERT_IN_CHAIN"), "fail", /uplink\.tls\.caFile/);
    finds(refused("CERT_HAS_EXPIRED"), "fail", /clock first/);
    finds(refused("ERR_TLS_CERT_ALTNAME_INVALID"), "fail", /as fusion's certificate names it/);
    finds(refused("ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED"), "fail", /certFile and keyFile/);
    const reached = { kind: "reached", ...at, protocol: "TLSv1.3" } as const;
    finds(checkUplink({ ...reached, validTo: NOON + 90 * DAY_MS }, NOON), "ok", /TLSv1\.3/);
    finds(checkUplink({ ...reached, validTo: NOON + 3 * DAY_MS }, NOON), "warn", /ends in 3 d/);
    finds(
      checkUplink({ ...reached, protocol: undefined, validTo: undefined }, NOON),
      "ok",
      /can be reached$|can be reached\. /,
    );
  });

  test("listening ports and the holder of a lock are read from the kernel's tables", () => {
    const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1\n`;
    assert.deepEqual(listeningIn(table), [1883]);
    const locks = `1: FLOCK  ADVISORY  WRITE 77 fe:00:42 0 EOF
2: POSIX  ADVISORY  READ 78 fe:00:42 1073741826 1073742335
3: POSIX  ADVISORY  WRITE 79 fe:00:42 1073741824 1073742335
4: POSIX  ADVISORY  WRITE 80 fe:00:43 1073741824 1073742335\n`;
    assert.equal(lockHolderIn(locks, 42), 79);
    assert.equal(lockHolderIn(locks, 44), undefined);
  });
});

describe("doctor finds of the outbox", () => {
  test("a file that was not closed, or is nearly full", () => {
    finds(checkOutboxFile(FILE), "ok", /1\.0 GiB of 2\.0 GiB; closed cleanly/);
    finds(checkOutboxFile({ ...FILE, walBytes: 4096, untouched: false }), "warn", /not a clean one/);
    finds(checkOutboxFile({ ...FILE, bytes: 1.9 * GIB }), "warn", /nearly full/);
  });

  test("how the file was left, by what stands beside it, whatever a command has tidied up since", () => {
    const left = (state: FileState | undefined) => checkOutboxFile({ ...FILE, untouched: false, state });
    finds(left({ state: "open" }), "warn", /the last stop was not a clean one.*next start checks/);
    finds(left({ state: "damaged", reason: "quick_check: …", attempts: 0 }), "fail", /damaged: quick_check.*repairs/);
    finds(left({ state: "suspect", reason: "disk I/O error" }), "fail", /damaged: disk I\/O error.*repairs/);
    finds(left({ state: "repaired-in-vain", reason: "…" }), "fail", /still cannot be opened.*Replace the card/);
    finds(left({ state: "replacing", fresh: "a", aside: "b" }), "warn", /interrupted.*next start/);
    finds(left(CLOSED), "warn", /changed since.*next start checks/);
    finds(left(undefined), "warn", /not known whether it was closed/);
  });

  test("a file that is not there, and whether it ought to be", () => {
    const gone = (state: FileState | undefined) =>
      checkOutboxFile({ ...FILE, exists: false, bytes: 0, untouched: false, state });
    finds(gone(undefined), "ok", /the daemon makes it/);
    finds(gone({ ...CLOSED, known: { lastSeq: 9, ledgers: [] } }), "ok", /the daemon makes it/);
    const known = { lastSeq: 9, ledgers: [{ ...new MemoryGatewayView().ledger(), pending: 7 }] };
    finds(gone({ ...CLOSED, known }), "fail", /is gone; 7 readings waited in it when it was last closed.*Put it back/);
    finds(gone({ state: "open", known }), "fail", /7 readings waited in it when it was last opened/);
  });

  test("a daemon that does not run, cannot be asked, or is another one", () => {
    finds(checkDaemon({ kind: "stopped" }, "sierra-014"), "warn", /does not run.*systemctl start/);
    finds(
      checkDaemon({ kind: "silent", pid: 42, why: "it is mute" }, "sierra-014"),
      "fail",
      /process 42 .*mute.*journalctl/,
    );
    const fact: DaemonFact = { kind: "answers", status: statusNow(new MemoryGatewayView()) };
    finds(checkDaemon(fact, "sierra-014"), "ok", /sierra-014, version 0\.1\.0/);
    finds(checkDaemon(fact, "sierra-015"), "fail", /sierra-014 that answers, not sierra-015/);
  });

  test("what the daemon itself has noticed, once", () => {
    const view = new MemoryGatewayView();
    view.facts.clock = { quality: "unsynchronised", forSeconds: 60, steps: 0 };
    view.facts.conditions = [
      { component: "uplink", code: "credentials", severity: "degraded", detail: "401", since: NOON },
      { component: "serial:mast", code: "port-gone", severity: "failing", detail: "gone", since: NOON },
    ];
    const findings = checkConditions(statusNow(view));
    assert.deepEqual(
      findings.map(({ check, level }) => [check, level]),
      [
        ["uplink", "warn"],
        ["serial:mast", "fail"],
      ],
    );
    finds(findings[0] as Finding, "warn", /401\. credentials: see summit-edge status/);
  });

  test("an outbox that is nearly full, has dead letters, or whose books do not balance", () => {
    const view = new MemoryGatewayView();
    const room = { ...view.facts.outbox.room, fill: 0.97 };
    view.facts.outbox = { ...view.facts.outbox, bytes: 1.95 * GIB, room };
    view.facts.ledger = { ...view.facts.ledger, delivered: 90 };
    const [used, books, letters] = checkOutbox(statusNow(view));
    finds(used as Finding, "warn", /15 waiting, the oldest for 1 min 1 s; 1\.9 GiB of 2\.0 GiB: nearly full/);
    finds(books as Finding, "fail", /5 without a fate/);
    finds(letters as Finding, "warn", /2 refused by fusion.*dead-letters list/);
    view.facts.outbox = { ...view.facts.outbox, bytes: 0, room: { ...room, limitedBy: "reserveFreeDisk" } };
    finds(checkOutbox(statusNow(view))[0] as Finding, "warn", /nearly full.*uplink, or free space on its disk/);
    view.facts.outbox = { ...view.facts.outbox, pending: 0, room };
    finds(checkOutbox(statusNow(view))[0] as Finding, "warn", /nearly full.*drop dead letters.*or raise outbox/);
  });

  test("wear that a card does not stand for long, and says what the estimate leaves out", () => {
    const view = new MemoryGatewayView();
    const answering = (): DaemonFact => ({ kind: "answers", status: statusNow(view) });
    finds(
      checkWear(answering()),
      "ok",
      /558 B a reading.*60\.0 GiB a year, 0\.6 % of .*before the card's own amplification/,
    );
    view.facts.wear = view.facts.wear && { ...view.facts.wear, bytesPerYear: 2 ** 41 };
    finds(checkWear(answering()), "warn", /20\.0 %.*outbox\.commitDelay/);
    view.facts.wear = undefined;
    finds(checkWear(answering()), "ok", /not known/);
    finds(checkWear({ kind: "stopped" }), "ok", /not known/);
  });
});
