/**
 * What can go wrong with a call, by its stable code. The API's description, the documentation and the tests are held to this
 * list. An operating fault that a call runs into answers 503 with the fault's own code besides, as it stands in the log.
 */
export const ERROR_CODES = {
  BAD_REQUEST: { status: 400, means: "The request is not valid HTTP, or its address is not." },
  INVALID_JSON: { status: 400, means: "The body is not JSON." },
  VALIDATION_FAILED: { status: 400, means: "A parameter or the body is not as described; `errors` says where." },
  KEY_REQUIRED: { status: 401, means: "The call needs an API key, and none was sent." },
  KEY_INVALID: { status: 401, means: "The key is not one of this gateway's, or was revoked." },
  KEY_EXPIRED: { status: 401, means: "The key's time has run out." },
  FORBIDDEN_HOST: { status: 403, means: "`Host` is not a name of this gateway: a page may have rebound its own name." },
  FORBIDDEN_ORIGIN: { status: 403, means: "A page of another site tried to change something." },
  SCOPE_INSUFFICIENT: { status: 403, means: "The key is good, and its scope does not reach so far." },
  RESOURCE_NOT_FOUND: { status: 404, means: "There is nothing at that address, or nothing of that id." },
  METHOD_NOT_ALLOWED: { status: 405, means: "The address knows other methods; `Allow` lists them." },
  REQUEST_TIMEOUT: { status: 408, means: "The request came too slowly." },
  REPLAY_NO_UPLINK: { status: 409, means: "There is no uplink to send readings to." },
  REPLAY_RUNNING: { status: 409, means: "A replay is under way already." },
  REPLAY_NOTHING_KEPT: { status: 409, means: "Delivered readings are not kept." },
  TAILS_EXHAUSTED: { status: 409, means: "As many look on at serial ports as may at a time." },
  BODY_TOO_LARGE: { status: 413, means: "The body is larger than `http.limits.maxBodyBytes`." },
  URL_TOO_LONG: { status: 414, means: "The address, or a part of it, is too long." },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, means: "The body must be `application/json`." },
  EXPECTATION_FAILED: { status: 417, means: "`Expect` asks for something other than `100-continue`." },
  RATE_LIMIT_EXCEEDED: { status: 429, means: "Too many requests of this caller; `Retry-After` says when to go on." },
  HEADERS_TOO_LARGE: { status: 431, means: "The header fields are larger than 8 KiB together." },
  INTERNAL_ERROR: { status: 500, means: "A fault in the program; its log says more." },
  NOT_ALIVE: { status: 503, means: "The daemon cannot do its work." },
  NOT_READY: { status: 503, means: "The daemon is starting or stopping." },
  UPSTREAM_TIMEOUT: { status: 504, means: "What is behind the API, the outbox say, did not answer in time." },
} as const satisfies Readonly<Record<string, { readonly status: number; readonly means: string }>>;

export type ErrorCode = keyof typeof ERROR_CODES;
