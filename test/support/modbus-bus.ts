import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** The system's own Python, whose Debian packages hold pymodbus. */
const PYTHON = "/usr/bin/python3";

/** Why tests with pymodbus are skipped; `false` where it is there. */
export const withoutPymodbus =
  spawnSync(PYTHON, ["-c", "import pymodbus, serial_asyncio"], { stdio: "ignore" }).status === 0
    ? false
    : "python3-pymodbus or python3-serial-asyncio is not installed";

/**
 * A bus of pymodbus servers at one end of a serial line. Each has the holding registers 0 to 9 (its address × 1000 and counting) and
 * the coils 0 to 9 (every other one on). To whom `silent` or `garbled` names it does not answer, or with a wrong CRC; both can be changed by a
 * line `silent 3 4` or `garbled 5` on its standard input. What it hears it says, the address of each request in a line.
 */
const PROGRAM = `
import asyncio, logging, sys
from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server.async_io import ModbusSerialServer, ModbusSingleRequestHandler
from pymodbus.transaction import ModbusRtuFramer

device, addresses = sys.argv[1], [int(one) for one in sys.argv[2].split(",")]
logging.disable(logging.CRITICAL)
faults = {"silent": set(), "garbled": set()}

def server(address):
    return ModbusSlaveContext(
        hr=ModbusSequentialDataBlock(0, [address * 1000 + n for n in range(10)]),
        co=ModbusSequentialDataBlock(0, [n % 2 == 1 for n in range(10)]),
        zero_mode=True,
    )

class Handler(ModbusSingleRequestHandler):
    def send(self, message, *addr, **_):
        print(message.unit_id, flush=True)
        if message.unit_id in faults["silent"]:
            return
        packet = bytearray(self.framer.buildPacket(message))
        if message.unit_id in faults["garbled"]:
            packet[-1] ^= 0xFF
        super().send(bytes(packet), *addr, skip_encoding=True)

async def main():
    context = ModbusServerContext(slaves={one: server(one) for one in addresses}, single=False)
    bus = ModbusSerialServer(
        context, ModbusRtuFramer, port=device, baudrate=19200,
        handler=Handler, ignore_missing_slaves=True,
    )
    await bus.start()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if line == "":
            return
        kind, *those = line.split()
        faults[kind] = {int(one) for one in those}
        print("changed", flush=True)

asyncio.run(main())
`;

export class ModbusBus {
  /** Requests for each address so far. */
  readonly requests = new Map<number, number>();
  readonly #child: ChildProcess;
  #changed = (): void => {};

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(device: string, addresses: readonly number[]): Promise<ModbusBus> {
    const child = spawn(PYTHON, ["-c", PROGRAM, device, addresses.join(",")], { stdio: ["pipe", "pipe", "inherit"] });
    const bus = new ModbusBus(child);
    await new Promise<void>((resolve, reject) => {
      child.once("exit", (code) => reject(new Error(`pymodbus ended with ${code}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (line === "ready") resolve();
        else if (line === "changed") bus.#changed();
        else bus.#heard(Number(line));
      });
    });
    return bus;
  }

  /** Who does not answer, or answers with a wrong CRC, from now on; nobody where none is named. */
  async make(fault: "silent" | "garbled", ...addresses: number[]): Promise<void> {
    const changed = new Promise<void>((resolve) => {
      this.#changed = resolve;
    });
    this.#child.stdin?.write(`${fault} ${addresses.join(" ")}\n`);
    await changed;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }

  #heard(address: number): void {
    this.requests.set(address, (this.requests.get(address) ?? 0) + 1);
  }
}
