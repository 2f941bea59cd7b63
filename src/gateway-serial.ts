/** A serial port as operations sees it: the gateway's, or one that a command has opened by itself. */
import type { SerialPortConfig } from "./config/schema.ts";
import type { Conditions } from "./kernel/conditions.ts";
import type { PortView, WatchedPort } from "./operations/view.ts";
import type { SerialSource } from "./sources/serial/serial-source.ts";

/** How a port is. What is wrong with it is why it is not open, or what is odd about it though it is. */
export function portViewOf(source: SerialSource, conditions: Conditions): PortView & { readonly state: string } {
  const { name: _name, kind: _kind, ...status } = source.status();
  const component = `serial:${source.config.name}`;
  const wrong = conditions.list().filter((condition) => condition.component === component);
  if (status.detail !== undefined || wrong.length === 0) return status;
  return { ...status, detail: wrong.map(({ detail }) => detail).join("; ") };
}

/** The codec; or, of a port whose devices are asked in a protocol of its own, that. */
export function languageOf({ codec, modbus }: Pick<SerialPortConfig, "codec" | "modbus">): string {
  return codec ?? (modbus === undefined ? "sdi12" : "modbus");
}

/** The port for whoever looks on. */
export function watchedPort(source: SerialSource, conditions: Conditions): WatchedPort {
  const { name, baudRate, dataBits, parity, stopBits, framing } = source.config;
  return {
    name,
    settings: { baudRate, dataBits, parity, stopBits, framing, codec: languageOf(source.config) },
    status: () => portViewOf(source, conditions),
    watch: (watcher) => source.traffic.watch(watcher),
  };
}
