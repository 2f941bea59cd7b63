/** Topic names and topic filters (MQTT 3.1.1, section 4.7), two types. Pure. */

/** A topic filter, taken apart once. */
export interface TopicFilter {
  readonly text: string;
  readonly levels: readonly string[];
}

/** Takes a topic filter apart; `undefined` where it is none: `+` and `#` must stand alone, `#` only at the end. */
export function parseTopicFilter(text: string): TopicFilter | undefined {
  if (text.length === 0 || text.includes("\0")) return undefined;
  const levels = text.split("/");
  const valid = levels.every((level, index) =>
    level === "#" ? index === levels.length - 1 : level === "+" || !/[+#]/.test(level),
  );
  return valid ? { text, levels } : undefined;
}

/** Whether a text can be the topic name of a PUBLISH: not empty, without wildcards and without U+0000. */
export function isTopicName(text: string): boolean {
  return text.length > 0 && !/[+#\0]/.test(text);
}

/** Whether a filter covers a topic name. A wildcard in first place does not cover topics that begin with `$`. */
export function covers(filter: TopicFilter, topic: string): boolean {
  const { levels } = filter;
  const first = levels[0];
  if (topic.charCodeAt(0) === 0x24 && (first === "+" || first === "#")) return false;
  const names = topic.split("/");
  for (const [index, level] of levels.entries()) {
    if (level === "#") return true;
    if (index >= names.length) return false;
    if (level !== "+" && level !== names[index]) return false;
  }
  return levels.length === names.length;
}
