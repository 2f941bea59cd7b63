/** What is wrong with a request, in words: which field, and what is wanted there. Pure. */
import type { ErrorObject } from "ajv";
import { suggestion } from "../config/nearest.ts";

/** One thing that does not fit. */
export interface RequestFault {
  /** The field, as a JSON pointer from the body, the query or the parameters; empty where all of it is meant. */
  readonly instancePath: string;
  /** What is wanted there: `must be a whole number from 1 to 1000`. */
  readonly message: string;
}

/** As much of a schema as is told. */
interface Wanted {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly properties?: Readonly<Record<string, Wanted>>;
  readonly oneOf?: readonly Wanted[];
}

/** The faults that ajv found, with `verbose` on. Values are not repeated: they may be secrets. */
export function requestFaults(errors: readonly ErrorObject[]): RequestFault[] {
  return ofTheAlternativeMeant(errors).map(faultOf);
}

/** Of several alternatives, the faults of the one whose fields were given; of none of them, that one has to be chosen. */
function ofTheAlternativeMeant(errors: readonly ErrorObject[]): readonly ErrorObject[] {
  const choice = errors.find(({ keyword }) => keyword === "oneOf");
  if (choice === undefined) return errors;
  const inside = errors.filter((error) => error !== choice && error.schemaPath.startsWith(`${choice.schemaPath}/`));
  const meant = inside.filter(({ instancePath }) => instancePath.length > choice.instancePath.length);
  return meant.length > 0 ? meant : [choice];
}

function faultOf(error: ErrorObject): RequestFault {
  const { keyword, instancePath, params } = error;
  const schema = error.parentSchema as Wanted;
  const field = (name: string): string => `${instancePath}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
  switch (keyword) {
    case "additionalProperties": {
      const name = String(params.additionalProperty);
      const known = Object.keys(schema.properties ?? {});
      return { instancePath: field(name.slice(0, 64)), message: `is not known: ${suggestion(name, known)}` };
    }
    case "required": {
      const name = String(params.missingProperty);
      return { instancePath: field(name), message: `is missing: ${wantedOf(schema.properties?.[name] ?? {})}` };
    }
    default:
      return { instancePath, message: `must be ${wantedOf(schema)}` };
  }
}

function wantedOf(schema: Wanted): string {
  if (schema.enum !== undefined) return `one of ${schema.enum.join(", ")}`;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.oneOf !== undefined) {
    const fields = schema.oneOf.map(({ properties = {} }) => Object.keys(properties).join(" and "));
    return `an object with either ${fields.join(" or ")}`;
  }
  switch (schema.type) {
    case "integer":
      return `a whole number${between(schema.minimum, schema.maximum)}`;
    case "number":
      return `a number${between(schema.minimum, schema.maximum)}`;
    case "string":
      if (schema.format === "date-time") return "a time in RFC 3339, such as 2026-07-01T12:00:00Z";
      return `text${of(schema.minLength, schema.maxLength, "characters")}`;
    case "array":
      return `a list${of(schema.minItems, schema.maxItems, "members")}`;
    case "boolean":
      return "true or false";
    default:
      return "an object";
  }
}

function between(least: number | undefined, most: number | undefined): string {
  if (least !== undefined && most !== undefined) return ` from ${least} to ${most}`;
  if (least !== undefined) return ` of at least ${least}`;
  return most === undefined ? "" : ` of at most ${most}`;
}

function of(least: number | undefined, most: number | undefined, what: string): string {
  if (most === undefined) return least === undefined ? "" : ` of at least ${least} ${what}`;
  return least === undefined ? ` of at most ${most} ${what}` : ` of ${least} to ${most} ${what}`;
}
