/**
 * The configuration, once: this one JSON Schema gives the type, the defaults, the validation, the schema for editors, the
 * override names, the example file (`config/gateway.yaml`) and the README's table.
 *
 * Formats of our own: `duration` and `size` are written with their unit, bounded by the keywords `atLeast` and `atMost`,
 * and are numbers, in milliseconds and bytes, once loaded; `hex` is bytes in hexadecimal digits; `path` is a file or folder, absolute once loaded; `url` may hold
 * a secret and is redacted where it is shown. `inWords` says what a `pattern` wants. `examples` stand, commented out, in the example file.
 */
import type { FromSchema } from "json-schema-to-ts";
import { aclFile, passwordFile, sources } from "./schema-access.ts";
import { audit } from "./schema-audit.ts";
import { certs } from "./schema-certs.ts";
import { http } from "./schema-http.ts";
import { mqttLimits } from "./schema-mqtt-limits.ts";
import { serialPort } from "./schema-serial.ts";
import { atMostAnHour, credential, duration, file, size, some } from "./schema-terms.ts";
import { uplink } from "./schema-uplink.ts";

const location = {
  type: "object",
  description: "Where the gateway stands. Not used yet.",
  examples: [{ lat: 38.94, lon: -120.05 }],
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
        certFile: file("PEM file with the server's certificate chain.", credential("mqtt.crt")),
        keyFile: file("PEM file with the server's private key.", credential("mqtt.key")),
        caFile: file(
          "PEM file with the authorities whose client certificates are accepted.",
          "/etc/summit-edge/devices-ca.crt",
        ),
        crlFile: file(
          "PEM file with those authorities' certificate revocation lists (CRL); whoever is on one is cut off at once.",
          "/etc/summit-edge/devices.crl",
        ),
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
      description:
        "Topic filter; one level may be {class}, one {source}, {device}, {node} or {id}, which gives the reading its class or source.",
    },
    class: { type: "string", minLength: 1, description: "Class of a reading that names none." },
    priority: {
      type: "string",
      enum: ["critical", "high", "normal", "low"],
      description: "Priority of a reading that names none.",
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
      description: "This gateway.",
      additionalProperties: false,
      default: {},
      properties: {
        id: {
          type: "string",
          pattern: "^[A-Za-z0-9._-]{1,64}$",
          inWords: "1 to 64 letters, digits, ., _ or -",
          description: "The gateway's name towards fusion; by default the host name.",
          examples: ["sierra-014"],
        },
        location,
        dataDir: {
          type: "string",
          format: "path",
          minLength: 1,
          default: "/var/lib/summit-edge",
          description: "Where the outbox and all other state lives; one daemon at a time.",
        },
      },
    },
    log: {
      type: "object",
      description: "The log, on standard output.",
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
      description: "The MQTT broker for devices.",
      additionalProperties: false,
      default: {},
      properties: {
        listeners: {
          type: "array",
          maxItems: 16,
          items: listener,
          default: [{ bind: "127.0.0.1", port: 1883 }],
          description: "Where the broker listens; an empty list switches it off.",
          examples: [
            {
              bind: "0.0.0.0",
              port: 8883,
              tls: {
                certFile: credential("mqtt.crt"),
                keyFile: credential("mqtt.key"),
                caFile: "/etc/summit-edge/devices-ca.crt",
                clientCertificate: "required",
              },
            },
          ],
        },
        anonymous: {
          type: "string",
          enum: ["never", "loopback", "always"],
          default: "loopback",
          description: "From where clients without credentials are let in.",
        },
        passwordFile,
        aclFile,
        sources,
        routes: {
          type: "array",
          maxItems: 256,
          items: route,
          default: [
            { topic: "observations/{class}" },
            { topic: "telemetry/{device}", class: "telemetry" },
            { topic: "alerts/{id}", class: "alert", priority: "critical" },
            { topic: "health/{node}/heartbeat", class: "heartbeat", priority: "low" },
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
        limits: mqttLimits,
      },
    },
    serial: {
      type: "array",
      maxItems: 64,
      items: serialPort,
      default: [],
      description: "Serial ports.",
      examples: [
        {
          name: "mast",
          path: "/dev/serial/by-id/usb-mast",
          baudRate: 4800,
          framing: "lines",
          codec: "nmea0183",
          class: "position",
        },
      ],
    },
    outbox: {
      type: "object",
      description: "The outbox: what was accepted waits here.",
      additionalProperties: false,
      default: {},
      properties: {
        file: {
          type: "string",
          minLength: 1,
          default: "outbox.db",
          description: "The outbox's file, relative to dataDir.",
        },
        maxBytes: size("2GiB", "How much the outbox may hold, its write-ahead log included.", { atLeast: "256KiB" }),
        maxAge: duration("30d", "How long a reading waits before it expires, since acceptance.", some),
        whenFull: {
          type: "string",
          enum: ["evict", "refuse"],
          default: "evict",
          description:
            "evict: the oldest readings of the lowest priority make room; refuse: no acknowledgement until there is room, the last of which is left to critical ones.",
        },
        waitForClock: duration(
          "2m",
          "How long readings without a time of their own wait for a clock that is not synchronised yet; critical ones never.",
          atMostAnHour,
        ),
        keepDelivered: duration("0s", "How long delivered readings stay available for replay."),
        commitDelay: {
          type: "object",
          additionalProperties: false,
          default: {},
          description: "How long a commit may wait for company, by priority, to spare the card.",
          properties: {
            critical: duration("0ms", "For critical readings.", atMostAnHour),
            high: duration("0ms", "For high priority.", atMostAnHour),
            normal: duration("250ms", "For normal priority.", atMostAnHour),
            low: duration("1s", "For low priority.", atMostAnHour),
          },
        },
        cardEndurance: size(
          "10TiB",
          "Writes the card is rated for (TBW), to estimate its wear; the default is a guess for 32 GB.",
          {
            atLeast: "1GiB",
          },
        ),
        reserveFreeDisk: size(
          "256MiB",
          "With less free space than this the outbox stops growing and makes do with the file that it has; 0B: no limit.",
        ),
        maxDeadLetters: {
          type: "integer",
          minimum: 0,
          maximum: 10000000,
          default: 10000,
          description: "Beyond it the oldest is dropped.",
        },
      },
    },
    uplink,
    certs,
    http,
    audit,
  },
} as const;

/** Of what type a value is that is written with its unit. */
export type Written = {
  deserialize: [
    { pattern: { type: "string"; format: "duration" }; output: number },
    { pattern: { type: "string"; format: "size" }; output: number },
  ];
};
type Present<T> = Exclude<T, undefined>;
type Filled = FromSchema<typeof configSchema, Written>;

export type GatewayConfig = Omit<Present<Filled["gateway"]>, "id"> & { id: string };
/**
 * The effective configuration: every default filled in (the host name for `gateway.id`), durations in milliseconds, sizes in
 * bytes, paths absolute but for `outbox.file`.
 */
export type Config = Omit<Filled, "gateway"> & { gateway: GatewayConfig };
export type MqttConfig = Present<Config["mqtt"]>;
export type MqttLimits = MqttConfig["limits"];
export type ListenerConfig = MqttConfig["listeners"][number];
export type RouteConfig = MqttConfig["routes"][number];
export type SerialPortConfig = Present<Config["serial"]>[number];
export type ModbusConfig = Present<SerialPortConfig["modbus"]>;
export type Sdi12Config = Present<SerialPortConfig["sdi12"]>;
export type PollConfig = Present<SerialPortConfig["poll"]>;
export type CommandConfig = PollConfig["requests"][number];
export type UplinkConfig = Present<Config["uplink"]>;
export type HttpConfig = Present<Config["http"]>;
