/** The `http` section of the configuration's schema. */
import { credential, file, size } from "./schema-terms.ts";

export const http = {
  type: "object",
  description: "The local HTTP API and status page.",
  additionalProperties: false,
  default: {},
  properties: {
    bind: {
      type: "string",
      minLength: 1,
      default: "127.0.0.1",
      description: "Address of the local HTTP API and status page; one that is not loopback needs `tls`.",
    },
    port: {
      type: "integer",
      minimum: 0,
      maximum: 65535,
      default: 8480,
      description: "Its port; 0 takes any free one.",
    },
    tls: {
      type: "object",
      description: "TLS 1.2 or newer; without it the API is plain, and bound to loopback only.",
      examples: [{ certFile: credential("http.crt"), keyFile: credential("http.key") }],
      additionalProperties: false,
      properties: {
        certFile: file("PEM file with the server's certificate chain.", credential("http.crt")),
        keyFile: file("PEM file with the server's private key.", credential("http.key")),
      },
    },
    auth: {
      type: "string",
      enum: ["remote", "always"],
      default: "remote",
      description: "Where calls need an API key: only where `bind` is not loopback, or always.",
    },
    hosts: {
      type: "array",
      maxItems: 64,
      items: {
        type: "string",
        pattern: "^[A-Za-z0-9.-]{1,253}$",
        inWords: "a host name or an IPv4 address, without a port",
      },
      default: [],
      description:
        "Further names that callers may use for this gateway, such as a reverse proxy's; those in the certificate are known.",
    },
    cors: {
      type: "array",
      maxItems: 64,
      items: { type: "string", minLength: 1 },
      default: [],
      description: "Origins (https://console.example) whose pages may call the API from a browser.",
    },
    limits: {
      type: "object",
      description: "What callers may ask of the API.",
      additionalProperties: false,
      default: {},
      properties: {
        maxConnections: {
          type: "integer",
          minimum: 1,
          maximum: 4096,
          default: 64,
          description: "Connections at once; an address that is not loopback may hold half of them.",
        },
        maxBodyBytes: size("64KiB", "Largest body of a request.", { atLeast: "1KiB", atMost: "16MiB" }),
        requestRate: {
          type: "integer",
          minimum: 0,
          maximum: 1000000,
          default: 100,
          description:
            "Requests per second that one caller (an API key, or an address) may make on average; three seconds' worth may come at once; 0: no limit.",
        },
      },
    },
  },
} as const;
