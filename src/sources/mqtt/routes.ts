/** Which topics carry readings, and what a topic says about them (contract, section 4). Pure. */
import { CLASS_LEVEL, LEVELS_IN_WORDS, SOURCE_LEVELS } from "../../config/route-topics.ts";
import type { RouteConfig } from "../../config/schema.ts";
import { GatewayError } from "../../kernel/errors.ts";
import type { Priority } from "../../observation/observation.ts";
import { covers, parseTopicFilter, type TopicFilter } from "./topics.ts";

/** What a topic gives a reading that does not say it itself. */
export interface RouteMatch {
  readonly class: string | undefined;
  readonly source: string | undefined;
  readonly priority: Priority | undefined;
}

interface Route {
  readonly filter: TopicFilter;
  /** The level that holds the class; −1 where none does. */
  readonly classAt: number;
  readonly sourceAt: number;
  readonly class: string | undefined;
  readonly priority: Priority | undefined;
}

/** Topics whose match is remembered; a further one empties the memory. */
const MAX_KNOWN_TOPICS = 1024;

/** The configured routes, in their order: the first that matches decides. */
export class Routes {
  readonly #routes: readonly Route[];
  /** Devices publish to the same few topics again and again. */
  readonly #known = new Map<string, RouteMatch | undefined>();

  /** `key` names the list in the configuration, for errors. */
  constructor(routes: readonly RouteConfig[], key = "mqtt.routes") {
    this.#routes = routes.map((route, index) => compile(route, `${key}[${index}]`));
  }

  /** What the first matching route says of a topic name; `undefined` where it carries no readings. */
  match(topic: string): RouteMatch | undefined {
    const known = this.#known.get(topic);
    if (known !== undefined || this.#known.has(topic)) return known;
    const match = this.#find(topic);
    if (this.#known.size >= MAX_KNOWN_TOPICS) this.#known.clear();
    this.#known.set(topic, match);
    return match;
  }

  #find(topic: string): RouteMatch | undefined {
    for (const route of this.#routes) {
      if (!covers(route.filter, topic)) continue;
      const levels = topic.split("/");
      const name = route.classAt < 0 ? route.class : levels[route.classAt];
      const source = route.sourceAt < 0 ? undefined : levels[route.sourceAt];
      if (name === "" || source === "") continue;
      return { class: name, source, priority: route.priority };
    }
    return undefined;
  }
}

function compile(route: RouteConfig, key: string): Route {
  const levels = route.topic.split("/");
  const places = levels.flatMap((level, index) =>
    level === CLASS_LEVEL || SOURCE_LEVELS.includes(level) ? [index] : [],
  );
  const classes = places.filter((index) => levels[index] === CLASS_LEVEL);
  const sources = places.filter((index) => levels[index] !== CLASS_LEVEL);
  const filter = parseTopicFilter(levels.map((level, index) => (places.includes(index) ? "+" : level)).join("/"));
  if (filter === undefined || /[{}]/.test(filter.text)) {
    throw badRoute(key, `${route.topic} is not a topic filter; braces hold a whole level: ${LEVELS_IN_WORDS}`);
  }
  if (classes.length > 1 || sources.length > 1) {
    throw badRoute(key, `${route.topic} names the class or the source twice`);
  }
  return {
    filter,
    classAt: classes[0] ?? -1,
    sourceAt: sources[0] ?? -1,
    class: route.class,
    priority: route.priority,
  };
}

function badRoute(key: string, message: string): GatewayError {
  return new GatewayError({
    code: "CONFIG_INVALID",
    op: "mqtt.routes",
    message: `${key}: ${message}`,
    hint: `Mend ${key}.topic, for example telemetry/{device}.`,
  });
}
