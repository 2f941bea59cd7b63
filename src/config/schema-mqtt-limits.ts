/** The `mqtt.limits` section of the configuration's schema: what one client, and all of them together, may ask of the broker. */
import { duration, size, some } from "./schema-terms.ts";

/** A client that needs longer is not slow but stuck. */
const someUpToAnHour = { atLeast: "1ms", atMost: "1h" } as const;
/** Keep Alive is 16 bits of seconds (MQTT 3.1.1, section 3.1.2.10). */
const keepAlive = { atLeast: "1s", atMost: "65535s" } as const;

const count = (value: number, description: string, { minimum = 1, maximum = 1_000_000 } = {}) =>
  ({ type: "integer", minimum, maximum, default: value, description }) as const;

export const mqttLimits = {
  type: "object",
  description: "What one client, and all of them together, may ask of the broker.",
  additionalProperties: false,
  default: {},
  properties: {
    maxConnections: count(256, "Connections at once, TLS handshakes included.", { maximum: 65535 }),
    maxConnectionsPerAddress: count(
      64,
      "Connections at once from one address, this machine's loopback excepted; 0: no limit of its own.",
      { minimum: 0, maximum: 65535 },
    ),
    maxConnectionsPerIdentity: count(
      128,
      "Clients at once under one certificate name or user name; further ones get return code 3; 0: no limit of its own. " +
        "Anonymous clients are counted by their address alone.",
      { minimum: 0, maximum: 65535 },
    ),
    maxConnectBytes: size("4KiB", "Largest CONNECT; nothing else is read before it.", {
      atLeast: "64B",
      atMost: "256KiB",
    }),
    maxPacketBytes: size("64KiB", "Largest MQTT packet after CONNECT.", { atLeast: "64B", atMost: "256MiB" }),
    handshakeTimeout: {
      type: "string",
      format: "duration",
      description: "Time for the TLS handshake; without one, connectTimeout.",
      examples: ["10s"],
      ...someUpToAnHour,
    },
    connectTimeout: duration(
      "10s",
      "Time for CONNECT to come, after the TLS handshake where there is one.",
      someUpToAnHour,
    ),
    authenticateTimeout: duration(
      "5s",
      "Time from CONNECT to its answer. Where passwords wait to be verified: to its turn, beyond which the answer is return code 3; then to its end.",
      someUpToAnHour,
    ),
    minKeepAlive: duration(
      "1s",
      "Shortest keep-alive; one that asks for less is let in, and its silence is noticed only after 1.5 times this.",
      keepAlive,
    ),
    maxKeepAlive: duration(
      "1h",
      "Longest keep-alive; one that asks for more, or for none (0), is let in, and closed when it says nothing for 1.5 times this.",
      keepAlive,
    ),
    publishRate: count(
      500,
      "Messages per client and second; above it the client is slowed down by not being read; 0: no limit.",
      { minimum: 0 },
    ),
    subscribeRate: count(100, "SUBSCRIBE and UNSUBSCRIBE packets per client and second, likewise; 0: no limit.", {
      minimum: 0,
    }),
    maxTopicBytes: size(
      "512B",
      "Longest topic or filter; a longer one is not forwarded or granted, and is no reading.",
      {
        atLeast: "16B",
        atMost: "65535B",
      },
    ),
    maxTopicLevels: count(32, "Most levels of a topic or filter, likewise.", { maximum: 100 }),
    maxSubscriptions: count(100, "Topic filters per client; further ones are answered with 0x80.", { maximum: 10_000 }),
    maxInflightQos2: count(
      1000,
      "QoS 2 messages per client between PUBLISH and PUBREL; the client that sends one more is cut off.",
      { maximum: 65535 },
    ),
    maxQueuedBytes: size(
      "16MiB",
      "Messages that wait for subscribers with persistent sessions, absent or slow to acknowledge, over all; one of them gets half.",
      { atLeast: "64KiB", atMost: "1GiB" },
    ),
    maxRetainedMessages: count(1000, "Retained messages; further ones are forwarded, not kept."),
    maxRetainedBytes: size("8MiB", "Their payloads together, likewise.", { atMost: "1GiB" }),
    maxSessions: count(1000, "Persistent sessions of absent clients; beyond it the one away for longest is forgotten."),
    sessionExpiry: duration("7d", "How long the session of an absent client is kept, by elapsed time.", some),
  },
} as const;
