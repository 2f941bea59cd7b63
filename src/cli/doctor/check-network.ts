/** The daemon's own ports, and the way to fusion. Pure. */
import { span } from "../format.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";

export interface PortFact {
  /** The key in the configuration: `http`, `mqtt.listeners[0]`. */
  readonly key: string;
  readonly bind: string;
  readonly port: number;
  /** `taken`: somebody listens; `free`: nobody does, and it could be bound; else why it could not (`EACCES`, …). */
  readonly state: string;
}

/** `running`: the daemon runs, so that it ought to be the one who listens. */
export function checkPort({ key, bind, port, state }: PortFact, running: boolean): Finding {
  const where = `${key}: port ${port} on ${bind}`;
  if (port === 0) return ok("ports", `${key}: any free port on ${bind}`);
  if (running && state === "taken") return ok("ports", `${where} is open`);
  if (running) {
    const hint =
      "Restart the daemon, if the configuration was changed; else look at its log: journalctl -u summit-edge";
    return fail("ports", `${where} is not open although the daemon runs`, hint);
  }
  switch (state) {
    case "free":
      return ok("ports", `${where} is free`);
    case "taken": {
      const hint = `See which (ss -ltnp 'sport = ${port}') and stop it, or change ${key}.port.`;
      return fail("ports", `${where} is taken by another program`, hint);
    }
    case "EACCES":
      return fail("ports", `${where} may not be opened by this user`, `Set ${key}.port to a port above 1023.`);
    default: {
      const hint = `Set ${key}.bind to an address that this machine has: ip address`;
      return fail("ports", `${where} cannot be opened (${state})`, hint);
    }
  }
}

/** How far the way to fusion could be gone. No reading was sent. */
export type UplinkFact =
  | { readonly kind: "none" }
  | { readonly kind: "unresolved"; readonly host: string; readonly code: string }
  | { readonly kind: "unconnected"; readonly host: string; readonly port: number; readonly code: string }
  /** A file that the handshake needs cannot be used; what is wrong with it is said where files are looked at. */
  | { readonly kind: "unready"; readonly host: string; readonly port: number; readonly detail: string }
  | { readonly kind: "refused"; readonly host: string; readonly code: string; readonly detail: string }
  | {
      readonly kind: "reached";
      readonly host: string;
      readonly port: number;
      /** `TLSv1.3`, …; `undefined` where the connection is plain. */
      readonly protocol: string | undefined;
      /** When fusion's certificate ends, wall time in milliseconds. */
      readonly validTo: number | undefined;
    };

const CERTIFICATE_SOON_MS = 14 * 86_400_000;

/** `now`: wall time, milliseconds. */
export function checkUplink(fact: UplinkFact, now: number): Finding {
  switch (fact.kind) {
    case "none":
      return warn(
        "uplink",
        "no uplink.url: readings are kept, and none is sent",
        "Set uplink.url to fusion's address.",
      );
    case "unresolved": {
      const hint = "Check the name in uplink.url, and this machine's name servers: resolvectl status";
      return fail("uplink", `${fact.host} has no address (${fact.code})`, hint);
    }
    case "unconnected": {
      const hint = "Check the link (ip route), the port in uplink.url, and any firewall on the way.";
      return fail("uplink", `no connection to ${fact.host} port ${fact.port} (${fact.code})`, hint);
    }
    case "unready": {
      const detail = `${fact.host} port ${fact.port} can be reached; TLS was not tried: ${fact.detail}`;
      return warn("uplink", detail, "Mend the files of uplink.tls first.");
    }
    case "refused":
      return fail("uplink", `${fact.host}: the TLS handshake failed: ${fact.detail}`, handshakeHint(fact.code));
    case "reached": {
      const { host, port, protocol, validTo = Number.POSITIVE_INFINITY } = fact;
      const reached = `${host} port ${port} can be reached${protocol === undefined ? "" : `, ${protocol}`}`;
      if (validTo - now > CERTIFICATE_SOON_MS) return ok("uplink", reached);
      const detail = `${reached}; fusion's certificate ends in ${span((validTo - now) / 1000)}`;
      return warn("uplink", detail, "Tell whoever runs fusion.");
    }
  }
}

function handshakeHint(code: string): string {
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID")
    return "Look at this machine's clock first (timedatectl), then tell whoever runs fusion.";
  if (/SELF_SIGNED|UNABLE_TO_(GET|VERIFY)/.test(code))
    return "Name the authority that signed fusion's certificate in uplink.tls.caFile.";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "Write the host in uplink.url as fusion's certificate names it.";
  if (/ALERT|ECONNRESET|EPIPE/.test(code))
    return "Fusion did not accept it: check uplink.tls.certFile and keyFile, and that it speaks TLS 1.2 or newer.";
  return "Check that uplink.url points at fusion, and uplink.tls.";
}
