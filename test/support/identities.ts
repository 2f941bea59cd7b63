import type { ClientIdentity } from "#src/identity/access.js";

/** A client of this machine that has shown nothing. */
export function anonymous(clientId: string): ClientIdentity {
  return {
    clientId,
    clientIdGiven: true,
    username: undefined,
    credential: undefined,
    certificateName: undefined,
    name: undefined,
    loopback: true,
  };
}

/** A client from elsewhere whose password fits the entry `credential`. */
export function user(name: string, clientId = name, credential = "entry"): ClientIdentity {
  return { ...anonymous(clientId), username: name, credential, name, loopback: false };
}

/** A client from elsewhere with a verified certificate. */
export function certified(name: string, clientId = name): ClientIdentity {
  return { ...anonymous(clientId), certificateName: name, name, loopback: false };
}
