/** The words in which the configuration's schema is written: values with a unit, files, secrets. */

/** Bounds of a duration or a size, both included, written as the value is. */
export interface Bounds {
  readonly atLeast?: string;
  readonly atMost?: string;
}

export const duration = (value: string, description: string, bounds: Bounds = {}) =>
  ({ type: "string", format: "duration", default: value, description, ...bounds }) as const;
/** A wait or time-out of nothing at all would spin, or never succeed. */
export const some = { atLeast: "1ms" } as const;
/** Longer than this, an acknowledgement or a batch is not waiting for company but stuck. */
export const atMostAnHour = { atMost: "1h" } as const;
export const size = (value: string, description: string, bounds: Bounds = {}) =>
  ({ type: "string", format: "size", default: value, description, ...bounds }) as const;
export const file = (description: string, example: string) =>
  ({ type: "string", format: "path", minLength: 1, description, examples: [example] }) as const;

/** A secret that systemd hands over (`LoadCredential=`), as the configuration names it. */
export const credential = (name: string) => `$\{CREDENTIALS_DIRECTORY}/${name}`;

/** Bytes, two hexadecimal digits each, blanks between them allowed. */
export const HEX_PATTERN = "^ *([0-9A-Fa-f]{2} *)+$";
export const hex = (description: string) => ({ type: "string", format: "hex", maxLength: 96, description }) as const;
