/**
 * The sessions of clients that are away, the one away for longest first: bounded in number, in what they hold together, and
 * in time. What goes beyond is handed to `forget`.
 */
import type { Clock } from "../../kernel/clock.ts";

export interface AbsentSessionsOptions<Session> {
  readonly clock: Clock;
  readonly max: number;
  /** What they may hold together, as `weigh` counts it. */
  readonly maxWeight: number;
  /** How long each is kept, in milliseconds of elapsed time. */
  readonly expiry: number;
  readonly weigh: (session: Session) => number;
  /** Whether it is missed less than any other when one has to go. */
  readonly isEmpty: (session: Session) => boolean;
  /** It is away no longer: it has expired, or made room. */
  readonly forget: (session: Session, why: "expired-session" | "session") => void;
}

interface Absence {
  readonly since: number;
  readonly weight: number;
}

export class AbsentSessions<Session> {
  readonly #options: AbsentSessionsOptions<Session>;
  readonly #sessions = new Map<Session, Absence>();
  #weight = 0;
  #cancel: (() => void) | undefined;

  constructor(options: AbsentSessionsOptions<Session>) {
    this.#options = options;
  }

  /** A client has gone. */
  add(session: Session): void {
    const { clock, max, maxWeight, weigh, isEmpty } = this.#options;
    const absence = { since: clock.monotonic(), weight: weigh(session) };
    this.#sessions.set(session, absence);
    this.#weight += absence.weight;
    while (this.#sessions.size > max) this.#forgetFirst("session", isEmpty);
    while (this.#weight > maxWeight) this.#forgetFirst("session", (other) => !isEmpty(other));
    if (this.#cancel === undefined) this.#arm();
  }

  /** A client has come back, or its session is given up; whether it was away. */
  delete(session: Session): boolean {
    const absence = this.#sessions.get(session);
    if (absence === undefined) return false;
    this.#weight -= absence.weight;
    return this.#sessions.delete(session);
  }

  /** Forgets what has expired by now, however late the timer is. */
  expire(): void {
    const now = this.#options.clock.monotonic();
    for (const { since } of this.#sessions.values()) {
      if (now - since < this.#options.expiry) break;
      this.#forgetFirst("expired-session");
    }
  }

  /** Ends the waiting. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #arm(): void {
    this.#cancel = undefined;
    const { clock, expiry } = this.#options;
    for (const { since } of this.#sessions.values()) {
      this.#cancel = clock.after(Math.max(1, since + expiry - clock.monotonic()), () => {
        this.expire();
        this.#arm();
      });
      return;
    }
  }

  /** The one away for longest of those that are preferred, else of all. */
  #forgetFirst(why: "expired-session" | "session", isPreferred: (session: Session) => boolean = () => true): void {
    let first: Session | undefined;
    for (const session of this.#sessions.keys()) {
      first ??= session;
      if (!isPreferred(session)) continue;
      first = session;
      break;
    }
    if (first === undefined) return;
    this.delete(first);
    this.#options.forget(first, why);
  }
}
