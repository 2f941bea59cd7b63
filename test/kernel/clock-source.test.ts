import assert from "node:assert/strict";
import { test } from "node:test";
import { chronycSays, clockSources, kernelStatusSays, timedatectlSays } from "#src/kernel/clock-source.js";

test("timedatectl says yes, no, or nothing that can be used", () => {
  assert.equal(timedatectlSays("yes\n"), true);
  assert.equal(timedatectlSays("no\n"), false);
  assert.equal(timedatectlSays(""), undefined);
  assert.equal(timedatectlSays("Failed to connect to bus: Host is down\n"), undefined);
});

test("chrony says it in the last column", () => {
  const line = (leap: string) =>
    `A29FC87B,time.example,4,1595250520.287893132,0.000021,-0.000012,0.000036,-2.1,0.003,0.25,0.0152,0.0008,64.2,${leap}\n`;
  assert.equal(chronycSays(line("Normal")), true);
  assert.equal(chronycSays(line("Insert second")), true);
  assert.equal(chronycSays(line("Not synchronised")), false);
  assert.equal(chronycSays("506 Cannot talk to daemon\n"), undefined);
  assert.equal(chronycSays(""), undefined);
});

test("the kernel's status word is read from adjtimex and from ntptime", () => {
  const adjtimex = (status: number) =>
    `         mode: 0\n       offset: -29\n    frequency: 1083482\n     maxerror: 16000000\n     esterror: 16\n       status: ${status}\n`;
  assert.equal(kernelStatusSays(adjtimex(64)), false);
  assert.equal(kernelStatusSays(adjtimex(1)), true);
  assert.equal(kernelStatusSays(adjtimex(8193)), true);
  const ntptime = (status: string) =>
    `ntp_adjtime() returns code 5 (ERROR)\n  modes 0x0 (),\n  offset 0.000 us, frequency 0.000 ppm, interval 1 s,\n  status ${status},\n`;
  assert.equal(kernelStatusSays(ntptime("0x2041 (PLL,UNSYNC,NANO)")), false);
  assert.equal(kernelStatusSays(ntptime("0x2001 (PLL,NANO)")), true);
  assert.equal(kernelStatusSays("Usage: adjtimex"), undefined);
});

test("every source of this machine, whatever it is, answers within its time", async () => {
  for (const source of clockSources()) {
    const answer = await source.ask();
    assert.ok(answer === undefined || typeof answer === "boolean", source.name);
  }
});
