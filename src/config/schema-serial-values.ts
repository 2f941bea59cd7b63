/** The words of the serial ports' schema for what a raw number means, in a frame's layout and in a register alike. */

/** What a raw number becomes. */
export const meaning = {
  name: { type: "string", minLength: 1, maxLength: 256, description: "Its name in the reading, unit included." },
  scale: { type: "number", description: "The reading is raw × scale + offset; without one, 1." },
  offset: { type: "number", description: "See scale; without one, 0." },
  values: {
    type: "object",
    additionalProperties: { type: "string" },
    description: "Words for raw numbers, such as { 0: idle, 1: measuring }; a number without a word stays one.",
  },
  none: {
    type: "array",
    minItems: 1,
    maxItems: 64,
    items: { type: "number" },
    description: "Raw numbers that mean that there is no reading.",
  },
} as const;

/** Of an integer. */
export const bits = {
  type: "array",
  minItems: 1,
  maxItems: 32,
  items: {
    type: "object",
    additionalProperties: false,
    required: ["name", "at"],
    properties: {
      ...meaning,
      at: { type: "integer", minimum: 0, maximum: 31, description: "Its least significant bit, from 0." },
      width: {
        type: "integer",
        minimum: 1,
        maximum: 32,
        description: "Its bits; without one, 1: true or false.",
      },
    },
  },
  description: "Bit fields of an integer.",
} as const;
