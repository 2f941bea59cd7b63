/** The HTTP API with what it needs of other rooms: its TLS material, the API keys, the commands' socket. */
import { asksForKeys, opensLocalSocket } from "./config/http-access.ts";
import type { Config, HttpConfig } from "./config/schema.ts";
import { ApiKeys } from "./identity/api-keys.ts";
import { httpTlsMaterial, type ServerTls } from "./identity/server-tls.ts";
import type { Audit } from "./kernel/audit.ts";
import type { Clock } from "./kernel/clock.ts";
import type { Reloading, Reloads } from "./kernel/reloading.ts";
import { localSocketPath } from "./kernel/socket-address.ts";
import type { Logger } from "./kernel/telemetry.ts";
import { HttpServer } from "./operations/http.ts";
import type { GatewayView } from "./operations/view.ts";

export interface GatewayHttpParts {
  readonly view: GatewayView;
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: Audit;
  readonly reloads: Reloads;
}

/** The server of the configuration's `http`; inert until `open`. @throws GatewayError where its TLS material cannot be used */
export async function createHttpServer({ http, gateway }: Config, parts: GatewayHttpParts): Promise<HttpServer> {
  const { reloads, ...rest } = parts;
  const keys = new ApiKeys(gateway.dataDir, parts.clock);
  if (asksForKeys(http)) await sayWhereNoKeyIs(keys, parts.log);
  const certificates = await openCertificates(http, reloads, (tls) => server.useTls(tls.options));
  const server: HttpServer = new HttpServer({
    ...rest,
    config: http,
    keys,
    ...(certificates && { tls: certificates.current.options }),
    ...(opensLocalSocket(http) && { localSocket: localSocketPath(gateway.dataDir) }),
  });
  return server;
}

/** The certificate and key of `http.tls`, which follow their files. */
async function openCertificates(
  { tls }: HttpConfig,
  reloads: Reloads,
  put: (tls: ServerTls) => void,
): Promise<Reloading<ServerTls> | undefined> {
  if (tls === undefined) return undefined;
  return reloads.open({ ...httpTlsMaterial(tls), condition: { component: "http", code: "tls-files" }, put });
}

async function sayWhereNoKeyIs(keys: ApiKeys, log: Logger): Promise<void> {
  try {
    if ((await keys.list()).length > 0) return;
    log.warn("the HTTP API asks for keys, and there is none: make one with summit-edge keys create NAME --scope read");
  } catch (error) {
    log.warn({ err: error }, "the API keys cannot be listed");
  }
}
