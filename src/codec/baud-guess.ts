/**
 * Which speed a device speaks at, judged by the rubbish that it makes at another speed. Pure.
 *
 * A UART that samples too slowly or too fast makes of each byte others, and not any others: at a quarter of the device's
 * speed hardly a byte is like those at double. So for each usual speed it is worked out what text (or any bytes, of a binary
 * protocol) sent at it would turn into, and that is compared with what was heard. It takes a few milliseconds.
 */

/** The speeds at which sensors are sold, in bits per second. */
export const USUAL_BAUD_RATES = [1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200] as const;

/** The usual speeds but for `readAt` at which `heard` was most probably sent, the most probable first. */
export function likelyBaudRates(heard: Uint8Array, readAt: number, text: boolean): number[] {
  const sample = text ? SAMPLE_LINES : [ANY_BYTES];
  return USUAL_BAUD_RATES.filter((rate) => rate !== readAt)
    .map((rate) => ({ rate, likelihood: likelihood(heard, misread(sample, rate, readAt)) }))
    .sort((one, other) => other.likelihood - one.likelihood)
    .map(({ rate }) => rate);
}

/**
 * What a UART that reads at `readAt` takes `pieces`, each sent at `sentAt` without a pause in it, to be: 8 data bits, no parity,
 * one stop bit. As Linux does where errors are ignored (IGNPAR), it leaves out a byte without a stop bit, but for a break.
 */
export function misread(pieces: readonly Uint8Array[], sentAt: number, readAt: number): number[] {
  return pieces.flatMap((piece) => sampled(levels(piece), sentAt / readAt));
}

const DATA_BITS = 8;

/** The line's level during each bit, the line at rest before and behind. */
function levels(bytes: Uint8Array): number[] {
  const bits = [1];
  for (const byte of bytes) {
    bits.push(0);
    for (let bit = 0; bit < DATA_BITS; bit++) bits.push((byte >> bit) & 1);
    bits.push(1);
  }
  return bits;
}

/** `width`: how many of the sender's bits one of the reader's lasts. */
function sampled(bits: readonly number[], width: number): number[] {
  const level = (time: number): number => bits[Math.floor(time)] ?? 1;
  const bytes: number[] = [];
  let at = 1;
  while (at < bits.length) {
    if (!(level(at - 1) === 1 && level(at) === 0)) {
      at++;
      continue;
    }
    // A start bit that is over at its middle was a disturbance.
    if (level(at + width / 2) === 1) {
      at++;
      continue;
    }
    let byte = 0;
    for (let bit = 0; bit < DATA_BITS; bit++) byte |= level(at + width * (bit + 1.5)) << bit;
    const stop = at + width * (DATA_BITS + 1.5);
    if (level(stop) === 1 || byte === 0) bytes.push(byte);
    at = Math.max(at + 1, Math.floor(stop) + 1);
  }
  return bytes;
}

/** The logarithm of how probable `heard` is where bytes are as frequent as in `expected`. */
function likelihood(heard: Uint8Array, expected: readonly number[]): number {
  // As if each byte had been seen half a time more: what a sample happens not to have is not impossible.
  const counts = new Float64Array(256).fill(0.5);
  for (const byte of expected) counts[byte] = (counts[byte] ?? 0) + 1;
  const total = expected.length + 128;
  return heard.reduce((sum, byte) => sum + Math.log((counts[byte] ?? 0) / total), 0);
}

/** What sensors say as text: sentences, objects, columns. */
const SAMPLE_LINES: readonly Uint8Array[] = [
  "$GPRMC,123519.00,A,4807.0381,N,01131.0002,E,022.4,084.4,230394,003.1,W*6A\r\n",
  "$GPGGA,235947.20,3856.4075,N,12003.6518,W,1,08,0.9,2545.4,M,46.9,M,,*47\r\n",
  "$WIMWV,214.8,R,005.7,M,A*3F\r\n$IIXDR,C,19.52,C,TempAir,P,1.01325,B,Baro*1A\r\n",
  '{"temperature_c":21.47,"humidity_pct":38.9,"pm25_ugm3":12.06,"battery_v":3.78}\r\n',
  '{"ts":1782907200,"source":"mast-7","co_ppm":0.4,"smoke":false,"n":50316}\n',
  "23.81,40.2,1013.25,7.9,185,0.0\r\n-4.06,97.5,899.33,12.6,274,1.2\r\n",
  "Q,229,002.74,M,00,16\r\n0R1,Dn=236D,Dm=283D,Sn=0.8M,Sm=1.4M\r\n",
].map((line) => Buffer.from(line));

/** Bytes of which none is more frequent, in an order without a pattern (a full-period congruential sequence). */
const ANY_BYTES = Uint8Array.from(
  { length: 1024 },
  ((state) => () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  })(1),
);
