/**
 * What has changed since it was last told, so that the worker's thread need not say all of its numbers with each answer: to say them takes
 * longer than to find out which are new. Pure.
 */

/** The changed members of a thing made of plain objects, arrays of a fixed length, and values; as deep as they lie. */
export type News<T> = T extends object ? { readonly [K in keyof T]?: News<T[K]> } : T;

/** How `now` differs from `told`, which has the same members. */
export function newsOf<T extends object>(now: T, told: T): News<T> {
  const news: { [K in keyof T]?: unknown } = {};
  for (const name in now) {
    const [value, before] = [now[name], told[name]];
    if (Object.is(value, before)) continue;
    if (!isObject(value) || !isObject(before)) {
      news[name] = value;
      continue;
    }
    const changes = newsOf(value, before);
    for (const _ in changes) {
      news[name] = changes;
      break;
    }
  }
  return news as News<T>;
}

/** What was told, with the news; what has not changed is the same object as before. */
export function withNews<T extends object>(told: T, news: News<T>): T {
  const now = (Array.isArray(told) ? [...told] : { ...told }) as T;
  const changes = news as { readonly [K in keyof T]?: unknown };
  for (const name in changes) {
    const [before, change] = [told[name], changes[name]];
    const isPart = isObject(before) && isObject(change);
    now[name] = (isPart ? withNews(before, change as News<typeof before>) : change) as T[typeof name];
  }
  return now;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
