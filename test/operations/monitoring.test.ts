import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { registerMetrics } from "#src/operations/metrics.js";
import { MemoryGatewayView } from "../support/memory-view.ts";
import { projectRoot, run, skipWithout } from "../support/programs.ts";
import { TestClock } from "../support/test-clock.ts";

const skip = skipWithout("promtool");
const folder = join(projectRoot, "config", "prometheus");
const read = (...path: string[]): string => readFileSync(join(projectRoot, "config", ...path), "utf8");

/** What other rooms register, with the labels they carry: the contract's (section 6), and what else is shown. */
const OF_OTHER_ROOMS: Readonly<Record<string, readonly string[]>> = {
  summit_edge_readings_accepted_total: ["source"],
  summit_edge_readings_refused_total: ["reason"],
  summit_edge_readings_delivered_total: ["uplink"],
  summit_edge_readings_dead_lettered_total: ["code"],
  summit_edge_outbox_commit_seconds_bucket: ["le"],
  summit_edge_uplink_requests_total: ["uplink", "outcome"],
  summit_edge_uplink_request_seconds_bucket: ["uplink", "le"],
  summit_edge_uplink_breaker_open: ["uplink"],
  summit_edge_mqtt_unrouted_total: [],
};

/** Every series name that the gateway exports. */
async function exported(): Promise<Set<string>> {
  const view = new MemoryGatewayView();
  registerMetrics(view, new TestClock())();
  const samples = (await view.metrics.metrics()).matchAll(/^(\w+)/gm);
  return new Set([...Object.keys(OF_OTHER_ROOMS), ...[...samples].map(([name]) => name)]);
}

const namedIn = (text: string): string[] => [...new Set(text.match(/\bsummit_edge_\w+/g))];

interface Panel {
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly { readonly expr: string }[];
}
const dashboard = JSON.parse(read("grafana", "dashboard.json")) as { readonly panels: readonly Panel[] };

test("every metric that the dashboard names is one that the gateway exports", async () => {
  const known = await exported();
  const names = namedIn(read("grafana", "dashboard.json"));
  assert.ok(names.length > 15);
  assert.deepEqual(
    names.filter((name) => !known.has(name)),
    [],
  );
});

test("every metric that an alert names is one that the gateway exports", async () => {
  const known = await exported();
  for (const name of namedIn(read("prometheus", "alerts.yml"))) assert.ok(known.has(name), name);
});

test("the dashboard shows every metric of the contract", () => {
  const names = namedIn(read("grafana", "dashboard.json"));
  assert.deepEqual(
    Object.keys(OF_OTHER_ROOMS).filter((name) => !names.includes(name)),
    [],
  );
});

test("Prometheus understands every question of the dashboard", { skip }, () => {
  const rules = dashboard.panels.flatMap(({ targets }) =>
    targets.map(({ expr }) => ({ record: "checked", expr: expr.replaceAll("$__rate_interval", "5m") })),
  );
  // JSON is YAML, so that the expressions need no quoting of their own.
  const numbered = rules.map((rule, at) => ({ ...rule, labels: { at: String(at) } }));
  const path = join(mkdtempSync(join(tmpdir(), "summit-edge-dashboard-")), "rules.yml");
  try {
    writeFileSync(path, JSON.stringify({ groups: [{ name: "dashboard", rules: numbered }] }));
    const { status, output } = run("promtool", ["check", "rules", path]);
    assert.equal(status, 0, output);
  } finally {
    rmSync(dirname(path), { recursive: true });
  }
});

test("no two panels of the dashboard lie on each other", () => {
  const overlap = ({ gridPos: a }: Panel, { gridPos: b }: Panel): boolean =>
    a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  for (const [at, panel] of dashboard.panels.entries())
    for (const other of dashboard.panels.slice(at + 1))
      assert.ok(!overlap(panel, other), `${panel.title} and ${other.title}`);
});

test("promtool finds the alerts in order", { skip }, () => {
  const { status, output } = run("promtool", ["check", "rules", "--lint-fatal", "alerts.yml"], { cwd: folder });
  assert.equal(status, 0, output);
});

test("each alert fires when it should, and none when all is well", { skip }, () => {
  const { status, output } = run("promtool", ["test", "rules", "alerts.test.yml"], { cwd: folder });
  assert.equal(status, 0, output);
});

test("each alert has a test in which it fires", () => {
  const alerts = [...read("prometheus", "alerts.yml").matchAll(/alert: (\w+)/g)].map(([, name]) => name);
  const tests = read("prometheus", "alerts.test.yml");
  for (const alert of alerts) assert.match(tests, new RegExp(`alertname: ${alert}\\n\\s+exp_alerts:\\n`), alert);
});
