/** Whose readings those of a serial port are. */
import type { SerialPortConfig } from "../../config/schema.ts";
import type { Origin } from "../intake.ts";
import { placeText } from "./port-place.ts";

/** What the devices on one port may have otherwise than the port. */
type Own = Pick<SerialPortConfig, "source" | "class" | "priority">;

/** The origin of what a port brings; of one of its devices where that has something of its own. */
export function serialOrigin(config: SerialPortConfig, usualClass: string, own: Own = config): Origin {
  const priority = own.priority ?? config.priority;
  return {
    kind: "serial",
    name: config.name,
    source: own.source ?? config.name,
    class: own.class ?? config.class ?? usualClass,
    ...(priority === undefined ? {} : { priority }),
    via: placeText(config),
  };
}
