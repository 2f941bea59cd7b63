/** Levels of a route's topic that give the reading a value. */

export const CLASS_LEVEL = "{class}";
/** Names for one thing, what a reading comes from, as the contract's table of topics writes them. */
export const SOURCE_LEVELS: readonly string[] = ["{source}", "{device}", "{node}", "{id}"];
/** All of them, for messages. */
export const LEVELS_IN_WORDS = "{class}, or one of {source}, {device}, {node} and {id}";
