/** How long and how deep topics may be; how long a client may be silent. Pure. */
import type { MqttLimits } from "../../config/schema.ts";

export type TopicLimits = Pick<MqttLimits, "maxTopicBytes" | "maxTopicLevels">;

/** Why a topic name or filter is longer or deeper than it may be; `undefined` where it is not. */
export function topicExcess(topic: string, limits: TopicLimits): string | undefined {
  const { maxTopicBytes, maxTopicLevels } = limits;
  // A UTF-16 code unit is three bytes at the most.
  if (topic.length * 3 > maxTopicBytes && Buffer.byteLength(topic) > maxTopicBytes)
    return `a topic longer than ${maxTopicBytes} bytes, mqtt.limits.maxTopicBytes`;
  return levelsOf(topic) > maxTopicLevels
    ? `a topic of more than ${maxTopicLevels} levels, mqtt.limits.maxTopicLevels`
    : undefined;
}

/** Levels of a topic name or filter. */
export function levelsOf(topic: string): number {
  let levels = 1;
  for (let at = topic.indexOf("/"); at >= 0; at = topic.indexOf("/", at + 1)) levels++;
  return levels;
}

/**
 * The keep-alive in force, in seconds, where a client asks for `requested`. MQTT 3.1.1 has no way to tell the client: it is
 * let in with what it asked for, and only the broker's own patience is bounded. 0, no keep-alive, becomes the longest: a
 * server may end a connection that it takes for dead at any time (section 3.1.2.10).
 */
export function keepAliveOf(requested: number, limits: Pick<MqttLimits, "minKeepAlive" | "maxKeepAlive">): number {
  const longest = limits.maxKeepAlive / 1000;
  return requested === 0 ? longest : Math.min(longest, Math.max(limits.minKeepAlive / 1000, requested));
}
