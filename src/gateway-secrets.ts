/** What health says of secrets that others on this machine may read or change. */
import type { Environment } from "./config/environment.ts";
import type { Config } from "./config/schema.ts";
import { exposedSecrets } from "./config/secret-files.ts";
import type { Conditions } from "./kernel/conditions.ts";

/**
 * Looks at the files as they are now. They are used all the same: a gateway that stays away for a wrong mode takes no readings,
 * and the secret has been read by then, or has not.
 */
export async function watchSecrets(config: Config, env: Environment, conditions: Conditions): Promise<void> {
  const found = await exposedSecrets(config, env);
  if (found.length === 0) return conditions.clear("secrets", "exposed");
  const each = found.map(({ message }) => message).join("; ");
  conditions.raise("secrets", "exposed", "degraded", `${each}; then reload the daemon (systemctl reload summit-edge)`);
}
