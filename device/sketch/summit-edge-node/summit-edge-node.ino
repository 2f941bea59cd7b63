/*
 * A sensor node for a Summit Edge gateway: an ESP32, or any Arduino with two analogue inputs. No libraries.
 *
 * It measures every few seconds and writes the readings to its serial port in one of two forms:
 *
 *   NDJSON     a line of JSON for each measurement. Easy to read by eye; nothing finds a bit that the cable has turned over.
 *   COBS_CRC   a binary frame of 14 bytes: the numbers, a CRC-16, stuffed by COBS so that a zero byte ends the frame and
 *              occurs nowhere else. For long cables and RS-485.
 *
 * README.md beside it has the gateway's configuration for each. Copy the sketch and put your own sensors into measure().
 */

#define NDJSON 1
#define COBS_CRC 2

#ifndef FORM
#define FORM NDJSON
#endif

/* The port: Serial is the USB connector; for an RS-485 transceiver or TTL wires, Serial1 or Serial2. */
#ifndef LINK
#define LINK Serial
#endif
const unsigned long BAUD_RATE = 9600;
const unsigned long INTERVAL_MS = 5000;

/* Name of this node, as fusion is to see it. In the form COBS_CRC it stands in the gateway's configuration. */
const char SOURCE[] = "ridge-7";

/* An MQ-2 smoke sensor and a TMP36 thermometer (10 mV/K, 500 mV at 0 degrees Celsius). */
#if defined(ESP32)
const int SMOKE_PIN = 34;
const int TEMPERATURE_PIN = 35;
const long ADC_MILLIVOLTS = 3300;
const long ADC_STEPS = 4095;
#else
const int SMOKE_PIN = A0;
const int TEMPERATURE_PIN = A1;
const long ADC_MILLIVOLTS = 5000;
const long ADC_STEPS = 1023;
#endif

/* Says that a sensor gave nothing: left out in NDJSON, and `none: [-32768]` in the gateway's layout. */
const int16_t NO_READING = -32768;

struct Measurement {
  uint32_t uptimeSeconds;
  uint16_t sequence;            /* counts up and begins anew at 0 after 65535: a gap is a lost frame */
  uint16_t smoke;               /* raw steps of the converter */
  int16_t temperatureCentiC;    /* hundredths of a degree Celsius, or NO_READING */
};

static Measurement measure() {
  static uint16_t sequence = 0;
  Measurement now;
  now.uptimeSeconds = millis() / 1000; /* begins anew after 49 days */
  now.sequence = sequence++;
  now.smoke = (uint16_t)analogRead(SMOKE_PIN);
  const long steps = analogRead(TEMPERATURE_PIN);
  const long millivolts = steps * ADC_MILLIVOLTS / ADC_STEPS;
  /* A TMP36 gives 100 mV to 2 V; anything else is a broken wire. */
  now.temperatureCentiC = millivolts < 100 || millivolts > 2000 ? NO_READING : (int16_t)((millivolts - 500) * 10);
  return now;
}

/* --- NDJSON ------------------------------------------------------------------------------------------------------------ */

/* print() of a float is not there on every board, and neither is %f. */
static void printHundredths(int16_t hundredths) {
  const long amount = hundredths < 0 ? -(long)hundredths : hundredths;
  if (hundredths < 0) LINK.print('-');
  LINK.print(amount / 100);
  LINK.print('.');
  if (amount % 100 < 10) LINK.print('0');
  LINK.print(amount % 100);
}

static void sendLine(const Measurement &now) {
  LINK.print("{\"source\":\"");
  LINK.print(SOURCE);
  LINK.print("\",\"uptime_s\":");
  LINK.print((unsigned long)now.uptimeSeconds);
  LINK.print(",\"sequence\":");
  LINK.print((unsigned long)now.sequence);
  LINK.print(",\"smoke_raw\":");
  LINK.print((unsigned long)now.smoke);
  if (now.temperatureCentiC != NO_READING) {
    LINK.print(",\"temperature_c\":");
    printHundredths(now.temperatureCentiC);
  }
  LINK.print("}\n");
}

/* --- COBS with a CRC --------------------------------------------------------------------------------------------------- */

const size_t PAYLOAD_BYTES = 10;
const size_t CRC_BYTES = 2;

/* CRC-16/CCITT-FALSE: polynomial 0x1021, initial value 0xffff; of "123456789" it is 0x29b1. */
static uint16_t crc16(const uint8_t *bytes, size_t length) {
  uint16_t crc = 0xffff;
  for (size_t at = 0; at < length; at++) {
    crc = (uint16_t)(crc ^ ((uint16_t)bytes[at] << 8));
    for (int bit = 0; bit < 8; bit++) {
      crc = (uint16_t)((crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
  }
  return crc;
}

/*
 * Consistent overhead byte stuffing (Cheshire and Baker, 1999) of up to 253 bytes, with the zero byte that ends the frame.
 * `stuffed` has room for length + 2 bytes; returns how many were written.
 */
static size_t cobs(const uint8_t *bytes, size_t length, uint8_t *stuffed) {
  size_t code = 0; /* where the distance to the next zero byte goes */
  size_t to = 1;
  for (size_t at = 0; at < length; at++) {
    if (bytes[at] != 0) {
      stuffed[to++] = bytes[at];
      continue;
    }
    stuffed[code] = (uint8_t)(to - code);
    code = to++;
  }
  stuffed[code] = (uint8_t)(to - code);
  stuffed[to++] = 0;
  return to;
}

static uint8_t *put16(uint8_t *to, uint16_t number) {
  *to++ = (uint8_t)(number >> 8);
  *to++ = (uint8_t)number;
  return to;
}

static void sendFrame(const Measurement &now) {
  uint8_t frame[PAYLOAD_BYTES + CRC_BYTES];
  uint8_t *to = frame;
  to = put16(to, (uint16_t)(now.uptimeSeconds >> 16));
  to = put16(to, (uint16_t)now.uptimeSeconds);
  to = put16(to, now.sequence);
  to = put16(to, now.smoke);
  to = put16(to, (uint16_t)now.temperatureCentiC);
  put16(to, crc16(frame, PAYLOAD_BYTES));

  uint8_t stuffed[sizeof frame + 2];
  LINK.write(stuffed, cobs(frame, sizeof frame, stuffed));
}

/* ----------------------------------------------------------------------------------------------------------------------- */

static void send(const Measurement &now) {
#if FORM == NDJSON
  sendLine(now);
#else
  sendFrame(now);
#endif
}

void setup() {
  LINK.begin(BAUD_RATE);
  /* What a boot loader has said before ends here, and is not taken with the first frame. */
#if FORM == NDJSON
  LINK.print('\n');
#else
  LINK.write((uint8_t)0);
#endif
}

void loop() {
  static unsigned long sentAt = 0 - INTERVAL_MS;
  /* A difference of times: right also when millis() begins anew. */
  if (millis() - sentAt < INTERVAL_MS) return;
  sentAt = millis();
  send(measure());
}
