/** Which configuration file a command uses. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Option } from "commander";
import { GatewayError } from "../kernel/errors.ts";

/** Where the configuration of an installed gateway lies. */
const INSTALLED = "/etc/summit-edge/gateway.yaml";
const SHIPPED = fileURLToPath(new URL("../../config/gateway.yaml", import.meta.url));
const DEMO = fileURLToPath(new URL("../../config/demo.yaml", import.meta.url));

/** `--config FILE`, the same for every command that needs the configuration. */
export function configOption(what = "configuration file"): Option {
  return new Option("--config <file>", `${what} (default: ${INSTALLED}, where it exists)`);
}

/** The installed file, where there is one. */
export function installedConfig(): string | undefined {
  return existsSync(INSTALLED) ? INSTALLED : undefined;
}

/**
 * The file that was named, else the installed one.
 * @throws GatewayError CONFIG_MISSING where there is neither
 */
export function configFile(named: string | undefined): string {
  const file = named ?? installedConfig();
  if (file !== undefined) return file;
  throw new GatewayError({
    code: "CONFIG_MISSING",
    op: "config.find",
    message: `no configuration file: none was named, and there is no ${INSTALLED}`,
    hint: `Copy the field default, ${SHIPPED}, to ${INSTALLED}, set gateway.id and uplink.url in it, and try again; or name a file with --config FILE. To see it all on a desk first, try \`npm start\`, which uses ${DEMO}.`,
  });
}
