/** How requests are checked against their schemas. */
import { createRequire } from "node:module";
import type { Ajv } from "ajv";
import type { FastifyInstance, FastifySchemaValidationError, FastifyServerOptions } from "fastify";
import { requestFaults } from "./request-faults.ts";

/**
 * How requests are checked and answers written. The validator is loaded by the first request that needs it: most daemons
 * are only ever asked how they are, and it weighs megabytes. Answers are made by this program: they are not checked again.
 */
export function useOwnCompilers(app: FastifyInstance): void {
  app.setSerializerCompiler(() => JSON.stringify);
  app.setValidatorCompiler<object>(({ schema, httpPart }) => {
    let validate: ReturnType<Ajv["compile"]> | undefined;
    // A query holds text, so it is converted; a body says what it means, so it is taken at its word.
    return (data: unknown) => {
      validate ??= validatorOf(httpPart !== "body").compile(schema);
      if (validate(data)) return { value: data };
      return { error: requestFaults(validate.errors ?? []) as FastifySchemaValidationError[] };
    };
  });
}

/** Fastify loads its own compilers unless it is given some, whether or not they are replaced afterwards. */
export const NO_COMPILERS = {
  buildValidator: () => undefined,
  buildSerializer: () => undefined,
} as unknown as NonNullable<NonNullable<FastifyServerOptions["schemaController"]>["compilersFactory"]>;

function validatorOf(coerceTypes: boolean): Ajv {
  const ajv = createRequire(import.meta.url)("ajv") as typeof import("ajv");
  // Verbose: an error that is told in words needs the schema that it comes from.
  return new ajv.Ajv({
    removeAdditional: false,
    useDefaults: true,
    validateFormats: false,
    coerceTypes,
    verbose: true,
  });
}
