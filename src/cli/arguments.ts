import { type Command, InvalidArgumentError } from "commander";

const EXCESS = /^error: too many arguments.*/;

/** Has every command that takes `--config` say so where it is given a word too many: that is a configuration, as a rule. */
export function sayHowConfigIsNamed(command: Command): void {
  if (command.options.some(({ long }) => long === "--config"))
    command.configureOutput({
      outputError: (text, write) =>
        write(text.replace(EXCESS, (said) => `${said} To name a configuration, say --config FILE.`)),
    });
  for (const each of command.commands) sayHowConfigIsNamed(each);
}

/** A parser for an option's whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

/** The number above 0 that an option's text is. */
export function positiveNumber(text: string): number {
  const number = Number(text);
  if (!Number.isFinite(number) || number <= 0) throw new InvalidArgumentError("Write a number above 0.");
  return number;
}

/** A parser for an option's time, RFC 3339 with its offset from UTC. */
export function moment(text: string): string {
  const ms = /^\d{4}-\d\d-\d\dt\d\d:\d\d:\d\d(\.\d+)?(z|[+-]\d\d:\d\d)$/i.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(ms)) return new Date(ms).toISOString();
  throw new InvalidArgumentError("It must be a time with its offset from UTC, as 2026-07-01T12:00:00Z.");
}
