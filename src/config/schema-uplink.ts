/** The `uplink` section of the configuration's schema. */
import { atMostAnHour, credential, duration, file, size, some } from "./schema-terms.ts";

export const uplink = {
  type: "object",
  description: "The way to fusion.",
  additionalProperties: false,
  default: {},
  properties: {
    type: { type: "string", enum: ["https"], default: "https", description: "How fusion is spoken to." },
    url: {
      type: "string",
      format: "url",
      minLength: 1,
      description:
        "Fusion's address for batches. https, or http on loopback. Without one nothing is sent, all is kept.",
      examples: ["https://fusion.example/api/v1/observations/batch"],
    },
    tls: {
      type: "object",
      description: "Trust, and the gateway's own certificate where fusion asks for one.",
      additionalProperties: false,
      default: {},
      properties: {
        caFile: file(
          "PEM file with the authorities to trust instead of the system's.",
          "/etc/summit-edge/fusion-ca.crt",
        ),
        certFile: file("PEM file with the gateway's client certificate.", credential("uplink.crt")),
        keyFile: file("PEM file with its private key.", credential("uplink.key")),
      },
    },
    tokenFile: file(
      "File with the bearer token; read again when it changes, and when fusion refuses it.",
      credential("uplink.token"),
    ),
    batch: {
      type: "object",
      description: "What one request holds.",
      additionalProperties: false,
      default: {},
      properties: {
        maxReadings: {
          type: "integer",
          minimum: 1,
          maximum: 10000,
          default: 500,
          description: "Readings per request.",
        },
        maxBytes: size("512KiB", "JSON bytes per request, before compression.", {
          atLeast: "512B",
          atMost: "64MiB",
        }),
        linger: duration(
          "250ms",
          "How long a batch that is not full waits for company; critical readings do not wait.",
          atMostAnHour,
        ),
        compression: { type: "string", enum: ["gzip", "none"], default: "gzip", description: "Content encoding." },
      },
    },
    concurrency: {
      type: "integer",
      minimum: 1,
      maximum: 16,
      default: 1,
      description: "Requests at once; strict order within a priority needs 1.",
    },
    backlog: {
      type: "string",
      enum: ["oldest-first", "live-first"],
      default: "oldest-first",
      description: "After an outage: the backlog first, or newer readings first; critical ones always lead.",
    },
    catchUpRate: {
      type: "integer",
      minimum: 0,
      maximum: 1000000,
      default: 0,
      description: "Readings per second that the backlog may take, on average; critical ones excepted; 0: no bound.",
    },
    reachability: duration(
      "1s",
      "How often a plain TCP connect looks whether fusion is back after failures to connect.",
      some,
    ),
    timeouts: {
      type: "object",
      description: "How long fusion is waited for.",
      additionalProperties: false,
      default: {},
      properties: {
        connect: duration("5s", "To connect, TLS included.", some),
        read: duration("30s", "From the end of the request to the end of the answer.", some),
        write: duration("10s", "Without progress while sending.", some),
      },
    },
    retry: {
      type: "object",
      description: "Exponential back-off after failures.",
      additionalProperties: false,
      default: {},
      properties: {
        initial: duration(
          "1s",
          "Upper bound of the first wait (full jitter); without one, 1s or `max` where that is shorter.",
          some,
        ),
        max: duration("60s", "Upper bound of any wait that fusion did not ask for.", some),
      },
    },
    breaker: {
      type: "object",
      description: "The circuit breaker: stops asking a service that does not cope.",
      additionalProperties: false,
      default: {},
      properties: {
        consecutiveFailures: {
          type: "integer",
          minimum: 1,
          default: 5,
          description: "Opens after as many failures in a row.",
        },
        failureRate: {
          type: "number",
          exclusiveMinimum: 0,
          maximum: 1,
          default: 0.5,
          description: "Opens at this share of failures in the window.",
        },
        minimumRequests: {
          type: "integer",
          minimum: 1,
          default: 10,
          description: "Requests in the window before the share counts.",
        },
        window: duration("60s", "The window.", some),
        recovery: duration("60s", "How long it stays open before one probe goes through.", some),
      },
    },
  },
} as const;
