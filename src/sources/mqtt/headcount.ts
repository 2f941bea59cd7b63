/**
 * Who is there, by name, up to so many under each: connections of an address, clients of an identity. A member that enters
 * again counts once, and stays until it has left as often: a client that connects anew under its id pushes out its older
 * connection, which leaves later.
 */
export class Headcount<Member> {
  readonly #max: number;
  readonly #rooms = new Map<string, Map<Member, number>>();

  /** `max` members under each name; 0: as many as want. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Counts a member in; `false`, and nothing is counted, where the name has as many as it may have. */
  enter(name: string, member: Member): boolean {
    const room = this.#rooms.get(name) ?? new Map<Member, number>();
    const times = room.get(member) ?? 0;
    if (times === 0 && this.#max > 0 && room.size >= this.#max) return false;
    room.set(member, times + 1);
    this.#rooms.set(name, room);
    return true;
  }

  /** Counts out a member that was counted in. */
  leave(name: string, member: Member): void {
    const room = this.#rooms.get(name);
    const times = room?.get(member);
    if (room === undefined || times === undefined) return;
    if (times > 1) room.set(member, times - 1);
    else room.delete(member);
    if (room.size === 0) this.#rooms.delete(name);
  }
}
