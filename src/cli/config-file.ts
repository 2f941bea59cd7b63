/** Which configuration file a command uses. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Option } from "commander";
import { GatewayError } from "../kernel/errors.ts";

/** Where the configuration of an installed gateway lies. */
const INSTALLED = "/etc/summit-edge/gateway.yaml";
const SHIPPED = fileURLToPath(new URL("../../config/gateway.yaml", import.meta.url));

/** `--config FILE`, the same for every command that needs the configuration. */
export function configOption(): Option {
  return new Option("--config <file>", `configuration file (default: ${INSTALLED}, where it exists)`);
}

/**
 * The file that was named, else the installed one.
 * @throws GatewayError CONFIG_MISSING where there is neither
 */
export function configFile(named: string | undefined): string {
  if (named !== undefined) return named;
  if (existsSync(INSTALLED)) return INSTALLED;
  throw new GatewayError({
    code: "CONFIG_MISSING",
    op: "config.find",
    message: `no configuration file: none was named, and there is no ${INSTALLED}`,
    hint: `Copy the field default, ${SHIPPED}, to ${INSTALLED}, set gateway.id and uplink.url in it, and try again; or name a file with --config FILE.`,
  });
}
