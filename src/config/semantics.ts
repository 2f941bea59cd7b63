/**
 * What a schema cannot say: that keys agree with one another, and that the whole is safe to run. Pure.
 *
 * Every problem is to be reported at once, so the checks also look at a configuration in which the schema has found faults:
 * each check looks only at parts that are sound.
 */

import { httpProblems, isLoopback } from "./http-access.ts";
import { networkAddress } from "./network-path.ts";
import { pollingDoubts, pollingFaults } from "./polling-semantics.ts";
import type { Finding } from "./problem.ts";
import { CLASS_LEVEL, LEVELS_IN_WORDS, SOURCE_LEVELS } from "./route-topics.ts";
import type { Config, HttpConfig, ListenerConfig, MqttConfig, SerialPortConfig, UplinkConfig } from "./schema.ts";
import type { Path } from "./schema-node.ts";
import { frameFaults } from "./serial-semantics.ts";

export interface Verdict {
  readonly problems: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/** Whether the schema found nothing wrong at a path, above it or below it. */
export type Soundness = (path: Path) => boolean;

/** Everything that does not fit together in what is sound of a configuration. */
export function examine(config: Config, sound: Soundness): Verdict {
  const { mqtt, http, uplink } = config;
  const listeners = soundItems(mqtt.listeners, ["mqtt", "listeners"], sound);
  const ports = soundItems(config.serial, ["serial"], sound);
  const httpIsSound = sound(["http"]);
  const problems = [
    ...listeners.flatMap(listenerTls),
    ...listeners.flatMap(listenerCrl),
    ...sameAddress(listeners, httpIsSound ? http : undefined),
    ...(sound(["mqtt", "limits"]) ? keepAliveRange(mqtt) : []),
    ...soundItems(mqtt.routes, ["mqtt", "routes"], sound).flatMap(([route, index]) =>
      atTopic(["mqtt", "routes", index, "topic"], routeFault(route.topic)),
    ),
    ...soundItems(mqtt.retained, ["mqtt", "retained"], sound).flatMap(([filter, index]) =>
      atTopic(["mqtt", "retained", index], filterFault(filter)),
    ),
    ...serialPorts(ports),
    ...(httpIsSound ? httpProblems(http) : []),
    ...(sound(["uplink", "tls"]) ? clientCertificate(uplink) : []),
    ...(sound(["uplink", "retry"]) ? backOff(uplink) : []),
  ];
  const warnings = [
    ...(sound(["mqtt", "anonymous"]) && mqtt.anonymous === "always" ? listeners.flatMap(openListener) : []),
    ...(["anonymous", "listeners", "passwordFile"].every((key) => sound(["mqtt", key])) ? closedToAll(mqtt) : []),
    ...ports.flatMap(([port, index]) =>
      pollingDoubts(port).map(({ path, message }) => ({ path: ["serial", index, ...path], message })),
    ),
  ];
  if (!sound(["uplink", "url"])) return { problems, warnings };
  const address = uplinkAddress(uplink);
  return { problems: [...problems, ...address.problems], warnings: [...warnings, ...address.warnings] };
}

type Item<T> = readonly [item: T, index: number];

function soundItems<T>(list: readonly T[], path: Path, sound: Soundness): Item<T>[] {
  if (!Array.isArray(list)) return [];
  return list.map((item: T, index) => [item, index] as const).filter(([, index]) => sound([...path, index]));
}

function listenerTls([{ tls }, index]: Item<ListenerConfig>): Finding[] {
  if (tls === undefined || tls.development) return [];
  const path = ["mqtt", "listeners", index, "tls"];
  const files = (["certFile", "keyFile"] as const)
    .filter((key) => tls[key] === undefined)
    .map((key) => ({ path: [...path, key], message: "is missing: TLS needs it (or `development: true`, on a desk)" }));
  if (tls.clientCertificate === "none" || tls.caFile !== undefined) return files;
  const message = `is missing: \`clientCertificate: ${tls.clientCertificate}\` needs to know whose certificates to accept`;
  return [...files, { path: [...path, "caFile"], message }];
}

function listenerCrl([{ tls }, index]: Item<ListenerConfig>): Finding[] {
  if (tls?.crlFile === undefined) return [];
  const path = ["mqtt", "listeners", index, "tls", "crlFile"];
  if (tls.clientCertificate !== "none" && tls.caFile !== undefined) return [];
  return [{ path, message: "is of no use without `caFile` and `clientCertificate: required` or `optional`" }];
}

function sameAddress(listeners: readonly Item<ListenerConfig>[], http: HttpConfig | undefined): Finding[] {
  const taken = new Map<string, string>();
  if (http !== undefined) taken.set(`${http.bind} ${http.port}`, "http");
  return listeners.flatMap(([{ bind, port }, index]) => {
    const address = `${bind} ${port}`;
    const holder = taken.get(address);
    taken.set(address, holder ?? `mqtt.listeners[${index}]`);
    if (port === 0 || holder === undefined) return [];
    return [{ path: ["mqtt", "listeners", index], message: `${holder} listens on ${bind} port ${port} already` }];
  });
}

function keepAliveRange({ limits }: MqttConfig): Finding[] {
  if (limits.minKeepAlive <= limits.maxKeepAlive) return [];
  return [{ path: ["mqtt", "limits", "minKeepAlive"], message: "must not be longer than mqtt.limits.maxKeepAlive" }];
}

function atTopic(path: Path, message: string | undefined): Finding[] {
  return message === undefined ? [] : [{ path, message }];
}

function routeFault(topic: string): string | undefined {
  const placeholders = topic.split("/").filter((level) => /[{}]/.test(level));
  for (const [index, level] of placeholders.entries()) {
    if (level !== CLASS_LEVEL && !SOURCE_LEVELS.includes(level))
      return `level \`${level}\` must be ${LEVELS_IN_WORDS}, as a whole, or hold no braces`;
    if (placeholders.indexOf(level) < index) return `${level} stands in it twice`;
  }
  const sources = placeholders.filter((level) => level !== CLASS_LEVEL);
  if (sources.length > 1) return `${sources.join(" and ")} both name the source`;
  return filterFault(topic);
}

/** MQTT 3.1.1, 4.7: a wildcard is a level of its own, # the last one; at most 65,535 bytes, no NUL. */
function filterFault(filter: string): string | undefined {
  if (filter.includes("\0") || Buffer.byteLength(filter) > 65_535)
    return "is no topic filter: it holds NUL or is too long";
  const levels = filter.split("/");
  const wrong = levels.find((level) => /[+#]/.test(level) && level.length > 1);
  if (wrong !== undefined) return `level \`${wrong}\` must be + or # as a whole, or hold neither`;
  const hash = levels.indexOf("#");
  return hash >= 0 && hash < levels.length - 1 ? "# must be the last level" : undefined;
}

function serialPorts(ports: readonly Item<SerialPortConfig>[]): Finding[] {
  return ports.flatMap(([port, index]) => {
    const path = ["serial", index];
    const problems: Finding[] = serialDevice(port).map((message) => ({ path: [...path, "path"], message }));
    for (const key of ["name", "path"] as const) {
      if (port[key] === undefined) continue;
      const [, first] = ports.find(([other]) => other[key] === port[key]) ?? [port, index];
      if (first < index)
        problems.push({ path: [...path, key], message: `\`${port[key]}\` is the ${key} of serial[${first}] too` });
    }
    for (const fault of [...frameFaults(port), ...pollingFaults(port)])
      problems.push({ path: [...path, ...fault.path], message: fault.message });
    if (port.reopen.initial > port.reopen.max)
      problems.push({ path: [...path, "reopen", "initial"], message: "must not be longer than reopen.max" });
    return problems;
  });
}

/** A port is one device: by its path, or by what it says of itself. */
function serialDevice({ path, match }: SerialPortConfig): string[] {
  if (path === undefined && match === undefined)
    return ["is missing: name the device file (ls /dev/serial/by-id), or its USB attributes in `match`"];
  if (path !== undefined && match !== undefined) return ["stands beside `match`: leave one of them out"];
  // A device file has no scheme; what has one is to be an adapter on the network.
  const isAddress = path !== undefined && /^[A-Za-z][A-Za-z0-9+.-]*:/.test(path);
  if (!isAddress || networkAddress(path) !== undefined) return [];
  return [`must be a device file, or tcp://host:port for an adapter on the network; \`${path}\` is neither`];
}

function clientCertificate({ tls }: UplinkConfig): Finding[] {
  if ((tls.certFile === undefined) === (tls.keyFile === undefined)) return [];
  const [missing, present] = tls.certFile === undefined ? ["certFile", "keyFile"] : ["keyFile", "certFile"];
  return [{ path: ["uplink", "tls", missing], message: `is missing: ${present} is of no use without it` }];
}

function backOff({ retry }: UplinkConfig): Finding[] {
  if (retry.initial <= retry.max) return [];
  return [{ path: ["uplink", "retry", "initial"], message: "must not be longer than uplink.retry.max" }];
}

function uplinkAddress({ url: text }: UplinkConfig): Verdict {
  const at = (message: string): Finding[] => [{ path: ["uplink", "url"], message }];
  if (text === undefined) return { problems: [], warnings: at("is not set: readings are kept, and nothing is sent") };
  const url = new URL(text);
  const credentials =
    url.username === "" && url.password === ""
      ? []
      : at("must hold no user name or password: put a token into a file, and name that in uplink.tokenFile");
  if (url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname)))
    return { problems: credentials, warnings: [] };
  const reason = url.protocol === "http:" ? `plain http is for loopback only, and ${url.hostname} is elsewhere` : "";
  const scheme = at(`must begin with https://${reason === "" ? "" : `: ${reason}`}`);
  return { problems: [...scheme, ...credentials], warnings: [] };
}

function openListener([{ bind, tls }, index]: Item<ListenerConfig>): Finding[] {
  if (isLoopback(bind) || tls?.clientCertificate === "required") return [];
  const message = `with \`anonymous: always\` whoever reaches ${bind} may publish readings`;
  return [{ path: ["mqtt", "listeners", index], message }];
}

/** Whether the broker listens, and nobody has a way to log in. */
function closedToAll({ anonymous, listeners, passwordFile }: MqttConfig): Finding[] {
  if (anonymous !== "never" || passwordFile !== undefined || listeners.length === 0) return [];
  if (listeners.some(({ tls }) => tls !== undefined && tls.clientCertificate !== "none")) return [];
  const message =
    "nobody can log in: set `mqtt.passwordFile` and add devices to it (`summit-edge devices add`), or `tls.caFile` and `tls.clientCertificate` of a listener";
  return [{ path: ["mqtt", "anonymous"], message }];
}
