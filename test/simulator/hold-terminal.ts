/** Opens a pseudo-terminal, says where it is, and holds it open until it is killed. */
import { systemClock } from "#src/kernel/clock.js";
import { openPseudoTerminal } from "#src/simulator/pseudo-terminal.js";

const terminal = await openPseudoTerminal({ baudRate: 4800, clock: systemClock });
console.log(terminal.path);
