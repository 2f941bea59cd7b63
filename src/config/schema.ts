/**
 * The configuration, once: this one JSON Schema gives the type, the defaults, the validation, the schema for editors, the
 * override names and the README's table. Durations and sizes are written with their unit (formats `duration` and
 * `size`) and are numbers, in milliseconds and bytes, once loaded.
 */
import type { FromSchema } from "json-schema-to-ts";

const duration = (value: string, description: string) =>
  ({ type: "string", format: "duration", default: value, description }) as const;
const size = (value: string, description: string) =>
  ({ type: "string", format: "size", default: value, description }) as const;
const file = (description: string) => ({ type: "string", minLength: 1, description }) as const;

const location = {
  type: "object",
  description:
    "Where the gateway stands; given to readings that carry no position of their own only where a port says so.",
  additionalProperties: false,
  required: ["lat", "lon"],
  properties: {
    lat: { type: "number", minimum: -90, maximum: 90, description: "Degrees north." },
    lon: { type: "number", minimum: -180, maximum: 180, description: "Degrees east." },
  },
} as const;

const listener = {
  type: "object",
  additionalProperties: false,
  required: ["bind", "port"],
  properties: {
    bind: { type: "string", minLength: 1, description: "Address to listen on." },
    port: { type: "integer", minimum: 0, maximum: 65535, description: "TCP port; 0 takes any free one." },
    tls: {
      type: "object",
      description: "TLS 1.2 or newer; without it the listener is plain.",
      additionalProperties: false,
      properties: {
        certFile: file("PEM file with the server's certificate chain."),
        keyFile: file("PEM file with the server's private key."),
        caFile: file("PEM file with the authorities whose client certificates are accepted."),
        clientCertificate: {
          type: "string",
          enum: ["required", "optional", "none"],
          default: "none",
          description: "Whether a client must show a certificate.",
        },
        development: {
          type: "boolean",
          default: false,
          description:
            "Make a development authority and certificate under dataDir on first start. Never for the field.",
        },
      },
    },
  },
} as const;

const route = {
  type: "object",
  additionalProperties: false,
  required: ["topic"],
  properties: {
    topic: {
      type: "string",
      minLength: 1,
      description: "Topic filter; one level may be {class}, {source} or {device}, which gives the reading that value.",
    },
    class: { type: "string", minLength: 1, description: "Class of a reading that names none." },
    priority: {
      type: "string",
      enum: ["critical", "high", "normal", "low"],
      description: "Priority of a reading that names none.",
    },
  },
} as const;

const csvColumn = {
  anyOf: [
    { type: "string", minLength: 1 },
    {
      type: "object",
      additionalProperties: false,
      required: ["name", "type"],
      properties: {
        name: { type: "string", minLength: 1 },
        type: { type: "string", enum: ["number", "text", "boolean"] },
      },
    },
  ],
} as const;

const serialPort = {
  type: "object",
  additionalProperties: false,
  required: ["name", "path", "codec"],
  properties: {
    name: {
      type: "string",
      pattern: "^[A-Za-z0-9_-]{1,64}$",
      description: "The port's name in status, metrics and log.",
    },
    path: { type: "string", minLength: 1, description: "Device file; prefer /dev/serial/by-id/… or by-path." },
    baudRate: { type: "integer", minimum: 50, maximum: 4000000, default: 9600, description: "Bits per second." },
    dataBits: { type: "integer", enum: [5, 6, 7, 8], default: 8, description: "Data bits." },
    parity: { type: "string", enum: ["none", "even", "odd"], default: "none", description: "Parity." },
    stopBits: { type: "number", enum: [1, 1.5, 2], default: 1, description: "Stop bits." },
    framing: { type: "string", enum: ["lines"], default: "lines", description: "How frames are told apart." },
    maxFrameBytes: size("4KiB", "Longer frames are discarded and counted."),
    codec: { type: "string", enum: ["json", "csv", "nmea0183"], description: "How a frame is read." },
    columns: {
      type: "array",
      minItems: 1,
      maxItems: 256,
      items: csvColumn,
      description: "Columns of codec csv, in order: a name, or { name, type: number | text | boolean }.",
    },
    separator: {
      type: "string",
      minLength: 1,
      maxLength: 1,
      default: ",",
      description: "Column separator of codec csv.",
    },
    class: { type: "string", minLength: 1, description: "Class of a reading that names none." },
    source: {
      type: "string",
      minLength: 1,
      description: "Source of a reading that names none; by default the port's name.",
    },
    priority: {
      type: "string",
      enum: ["critical", "high", "normal", "low"],
      description: "Priority of a reading that names none.",
    },
    reopen: {
      type: "object",
      additionalProperties: false,
      default: {},
      description: "Back-off between attempts to open the port again.",
      properties: {
        initial: duration("1s", "First wait."),
        max: duration("60s", "Longest wait."),
      },
    },
  },
} as const;

export const configSchema = {
  $schema: "http://json-schema.org/draft-07/schema#",
  title: "Summit Edge configuration",
  type: "object",
  additionalProperties: false,
  properties: {
    gateway: {
      type: "object",
      additionalProperties: false,
      default: {},
      properties: {
        id: {
          type: "string",
          pattern: "^[A-Za-z0-9._-]{1,64}$",
          description: "The gateway's name towards fusion; by default the host name.",
        },
        location,
        dataDir: {
          type: "string",
          minLength: 1,
          default: "/var/lib/summit-edge",
          description: "Where the outbox and all other state lives; one daemon at a time.",
        },
      },
    },
    log: {
      type: "object",
      additionalProperties: false,
      default: {},
      properties: {
        level: {
          type: "string",
          enum: ["trace", "debug", "info", "warn", "error", "fatal"],
          default: "info",
          description: "The least severe level that is written.",
        },
        format: {
          type: "string",
          enum: ["json", "pretty"],
          default: "json",
          description: "One JSON object a line, or for a person's eyes.",
        },
      },
    },
    mqtt: {
      type: "object",
      additionalProperties: false,
      default: {},
      properties: {
        listeners: {
          type: "array",
          maxItems: 16,
          items: listener,
          default: [{ bind: "127.0.0.1", port: 1883 }],
          description: "Where the broker listens; an empty list switches it off.",
        },
        anonymous: {
          type: "string",
          enum: ["never", "loopback", "always"],
          default: "loopback",
          description: "From where clients without credentials are let in.",
        },
        passwordFile: file("Passwords of devices. Not built yet: a configuration that names it is refused."),
        aclFile: file("Access rules. Not built yet: a configuration that names it is refused."),
        routes: {
          type: "array",
          maxItems: 256,
          items: route,
          default: [
            { topic: "observations/{class}" },
            { topic: "telemetry/{device}", class: "telemetry" },
            { topic: "alerts/{device}", class: "alert", priority: "critical" },
            { topic: "health/{device}/heartbeat", class: "heartbeat", priority: "low" },
          ],
          description: "Which topics carry readings; the first that matches decides.",
        },
        retained: {
          type: "array",
          maxItems: 1024,
          items: { type: "string", minLength: 1 },
          default: [],
          description: "Topic filters that may keep a retained message; elsewhere it is forwarded, not kept.",
        },
        offlineQueue: {
          type: "integer",
          minimum: 0,
          maximum: 100000,
          default: 0,
          description: "QoS 1 and 2 messages kept per absent subscriber with a persistent session.",
        },
        limits: {
          type: "object",
          additionalProperties: false,
          default: {},
          properties: {
            maxConnections: {
              type: "integer",
              minimum: 1,
              maximum: 65535,
              default: 256,
              description: "Connections at once.",
            },
            maxPacketBytes: size("64KiB", "Largest MQTT packet; before CONNECT it is 4 KiB at most."),
            connectTimeout: duration("10s", "Time for the TLS handshake, and then for CONNECT."),
            publishRate: {
              type: "integer",
              minimum: 0,
              maximum: 1000000,
              default: 500,
              description:
                "Messages per client and second; above it the client is slowed down by not being read; 0: no limit.",
            },
          },
        },
      },
    },
    serial: { type: "array", maxItems: 64, items: serialPort, default: [], description: "Serial ports." },
    outbox: {
      type: "object",
      additionalProperties: false,
      default: {},
      properties: {
        file: {
          type: "string",
          minLength: 1,
          default: "outbox.db",
          description: "The outbox's file, relative to dataDir.",
        },
        maxBytes: size("2GiB", "How much the outbox may hold."),
        maxAge: duration("30d", "How long a reading waits before it expires, since acceptance."),
        whenFull: {
          type: "string",
          enum: ["evict", "refuse"],
          default: "evict",
          description: "evict: lowest priority, oldest first; refuse: no acknowledgement.",
        },
        keepDelivered: duration("0s", "How long delivered readings stay available for replay."),
        commitDelay: {
          type: "object",
          additionalProperties: false,
          default: {},
          description: "How long a commit may wait for company, by priority, to spare the card.",
          properties: {
            critical: duration("0ms", "For critical readings."),
            high: duration("0ms", "For high priority."),
            normal: duration("250ms", "For normal priority."),
            low: duration("1s", "For low priority."),
          },
        },
        reserveFreeDisk: size("256MiB", "With less free space than this the outbox stops growing."),
        maxDeadLetters: {
          type: "integer",
          minimum: 0,
          maximum: 10000000,
          default: 10000,
          description: "Beyond it the oldest is dropped.",
        },
      },
    },
    uplink: {
      type: "object",
      additionalProperties: false,
      default: {},
      properties: {
        type: { type: "string", enum: ["https"], default: "https", description: "How fusion is spoken to." },
        url: {
          type: "string",
          minLength: 1,
          description:
            "Fusion's address for batches. https, or http on loopback. Without one nothing is sent, all is kept.",
        },
        tls: {
          type: "object",
          additionalProperties: false,
          default: {},
          properties: {
            caFile: file("PEM file with the authorities to trust instead of the system's."),
            certFile: file("PEM file with the gateway's client certificate."),
            keyFile: file("PEM file with its private key."),
          },
        },
        tokenFile: file("File with the bearer token; read again when fusion refuses it."),
        batch: {
          type: "object",
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
            maxBytes: size("512KiB", "JSON bytes per request, before compression."),
            linger: duration(
              "250ms",
              "How long a batch that is not full waits for company; critical readings do not wait.",
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
        reachability: duration(
          "1s",
          "How often a plain TCP connect looks whether fusion is back after failures to connect.",
        ),
        timeouts: {
          type: "object",
          additionalProperties: false,
          default: {},
          properties: {
            connect: duration("5s", "To connect, TLS included."),
            read: duration("30s", "From the end of the request to the end of the answer."),
            write: duration("10s", "Without progress while sending."),
          },
        },
        retry: {
          type: "object",
          additionalProperties: false,
          default: {},
          properties: {
            initial: duration("1s", "Upper bound of the first wait (full jitter)."),
            max: duration("60s", "Upper bound of any wait that fusion did not ask for."),
          },
        },
        breaker: {
          type: "object",
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
            window: duration("60s", "The window."),
            recovery: duration("60s", "How long it stays open before one probe goes through."),
          },
        },
      },
    },
    http: {
      type: "object",
      additionalProperties: false,
      default: {},
      properties: {
        bind: {
          type: "string",
          minLength: 1,
          default: "127.0.0.1",
          description: "Address of the local HTTP API and status page.",
        },
        port: {
          type: "integer",
          minimum: 0,
          maximum: 65535,
          default: 8480,
          description: "Its port; 0 takes any free one.",
        },
      },
    },
  },
} as const;

type Written = {
  deserialize: [
    { pattern: { type: "string"; format: "duration" }; output: number },
    { pattern: { type: "string"; format: "size" }; output: number },
  ];
};

/** The effective configuration: every default filled in, durations in milliseconds, sizes in bytes. */
export type Config = FromSchema<typeof configSchema, Written>;
type Present<T> = Exclude<T, undefined>;
export type GatewayConfig = Present<Config["gateway"]>;
export type LogConfig = Present<Config["log"]>;
export type MqttConfig = Present<Config["mqtt"]>;
export type ListenerConfig = MqttConfig["listeners"][number];
export type RouteConfig = MqttConfig["routes"][number];
export type SerialPortConfig = Present<Config["serial"]>[number];
export type OutboxConfig = Present<Config["outbox"]>;
export type UplinkConfig = Present<Config["uplink"]>;
export type HttpConfig = Present<Config["http"]>;
