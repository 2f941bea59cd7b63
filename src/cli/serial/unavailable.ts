import { GatewayError } from "../../kernel/errors.ts";

/** A serial port that cannot be opened, for the reason in `detail`. */
export function unavailable(detail: string): GatewayError {
  return new GatewayError({
    code: "SERIAL_PORT_UNAVAILABLE",
    op: "serial.open",
    message: detail,
    hint: "summit-edge doctor serial lists the ports that are there, and what holds them. One that the running gateway has is looked at by its name: summit-edge serial tail NAME.",
  });
}
