/** Somebody stopped the demo before its end: no fault of anything. */
export class Interrupted extends Error {
  constructor() {
    super("stopped before the end");
    this.name = "Interrupted";
  }
}
