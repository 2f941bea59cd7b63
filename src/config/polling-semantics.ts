/** What a schema cannot say about a port whose devices are asked: that the keys agree with one another. Pure. */

import {
  inManuals,
  isBitFunction,
  type ModbusRegister,
  manualsAdvice,
  registerFaults,
} from "../codec/modbus-registers.ts";
import type { PipelineFault } from "../codec/pipeline-config.ts";
import type { CommandConfig, ModbusConfig, PollConfig, Sdi12Config, SerialPortConfig } from "./schema.ts";

/** The ways to ask, of which a port has at most one. */
const WAYS = ["modbus", "sdi12", "poll"] as const;
/** They bring their own frames, and say themselves what is in them. */
const OWN_FRAMES = ["modbus", "sdi12"] as const;
const FRAME_KEYS = [
  "codec",
  "columns",
  "layout",
  "fields",
  "delimiter",
  "header",
  "length",
  "lengthField",
  "idle",
  "checksum",
] as const;

/** Everything that does not fit together in how a port's devices are asked; paths lead from the port. */
export function pollingFaults(port: SerialPortConfig): PipelineFault[] {
  const [way, ...others] = WAYS.filter((key) => port[key] !== undefined);
  const beside = others.map((key) => ({
    path: [key],
    message: `stands beside \`${way}\`: a port is polled in one way, so leave one of them out`,
  }));
  const own = OWN_FRAMES.find((key) => port[key] !== undefined);
  const idle = FRAME_KEYS.filter((key) => own !== undefined && port[key] !== undefined).map((key) => ({
    path: [key],
    message: `is of no use with \`${own}\`, which says itself what a frame is`,
  }));
  return [
    ...beside,
    ...idle,
    ...(port.modbus === undefined ? [] : modbusFaults(port.modbus)),
    ...(port.sdi12 === undefined ? [] : sdi12Faults(port.sdi12)),
    ...(port.poll === undefined ? [] : pollFaults(port.poll)),
  ];
}

function modbusFaults({ servers }: ModbusConfig): PipelineFault[] {
  return servers.flatMap((server, index) => {
    const path = ["modbus", "servers", index];
    const first = servers.findIndex(({ address }) => address === server.address);
    const twice = { path: [...path, "address"], message: `${server.address} is that of modbus.servers[${first}] too` };
    const faults = registerFaults(server.registers).map(({ path: place, message }) => ({
      path: [...path, "registers", ...place],
      message,
    }));
    return first < index ? [twice, ...faults] : faults;
  });
}

/** What is legal in how a port's devices are asked, and probably not what was meant; paths lead from the port. */
export function pollingDoubts({ modbus }: SerialPortConfig): PipelineFault[] {
  return (modbus?.servers ?? []).flatMap(({ registers }, index) => {
    const [first, ...others] = registers.filter(isManualsNumber);
    if (first === undefined) return [];
    const like = others.length === 0 ? "" : ` (and likewise ${others.length} more of the server's registers)`;
    const path = ["modbus", "servers", index, "registers", registers.indexOf(first), "at"];
    return [{ path, message: `${first.at} is sent as it stands; ${manualsAdvice(first.at)}${like}` }];
  });
}

/** Few servers have registers at addresses so high, and numbers in manuals begin there. */
function isManualsNumber(register: ModbusRegister): boolean {
  const meant = inManuals(register.at);
  return meant !== undefined && isBitFunction(meant) === isBitFunction(register);
}

function sdi12Faults({ sensors }: Sdi12Config): PipelineFault[] {
  return sensors.flatMap(({ address, measure, values }, index) => {
    const path = ["sdi12", "sensors", index];
    const faults: PipelineFault[] = [];
    const first = sensors.findIndex((other) => other.address === address && other.measure === measure);
    if (first < index)
      faults.push({
        path: [...path, "measure"],
        message: `${measure} of ${address} is that of sdi12.sensors[${first}] too`,
      });
    const names = new Set<string>();
    for (const [place, value] of values.entries()) {
      const here = [...path, "values", place];
      if (value === null) continue;
      const name = typeof value === "string" ? value : value.name;
      if (names.has(name)) faults.push({ path: here, message: `\`${name}\` stands twice among the sensor's values` });
      names.add(name);
      if (typeof value !== "string" && value.scale === 0)
        faults.push({ path: [...here, "scale"], message: "must not be 0" });
    }
    if (names.size === 0) faults.push({ path: [...path, "values"], message: "must name one value at least" });
    return faults;
  });
}

function pollFaults({ start, requests }: PollConfig): PipelineFault[] {
  return [...commandFaults(start, "start"), ...commandFaults(requests, "requests")];
}

function commandFaults(commands: readonly CommandConfig[], key: "start" | "requests"): PipelineFault[] {
  return commands.flatMap(({ send, text }, index) => {
    if ((send === undefined) !== (text === undefined)) return [];
    const path = ["poll", key, index, "send"];
    if (send === undefined) return [{ path, message: "is missing: a command has its bytes here, or its `text`" }];
    return [{ path, message: "stands beside `text`: leave one of them out" }];
  });
}
