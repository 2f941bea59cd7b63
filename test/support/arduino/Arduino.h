/*
 * As much of an Arduino as device/sketch needs, for a computer: the port is standard output, an analogue input the next number
 * on standard input, and the clock goes on by 100 ms at each loop. Where the numbers end, so does the program.
 */
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

const int A0 = 14;
const int A1 = 15;

static unsigned long fakeMillis = 0;
static unsigned long millis() { return fakeMillis; }

static int analogRead(int) {
  int steps;
  if (std::scanf("%d", &steps) != 1) {
    std::fflush(stdout);
    std::exit(0);
  }
  return steps;
}

class FakeSerial {
 public:
  void begin(unsigned long) {}
  size_t write(uint8_t byte) { return std::fputc(byte, stdout) == EOF ? 0 : 1; }
  size_t write(const uint8_t *bytes, size_t length) { return std::fwrite(bytes, 1, length, stdout); }
  size_t print(const char *text) { return std::fputs(text, stdout) < 0 ? 0 : 1; }
  size_t print(char character) { return write((uint8_t)character); }
  size_t print(long number) { return (size_t)std::printf("%ld", number); }
  size_t print(unsigned long number) { return (size_t)std::printf("%lu", number); }
};

static FakeSerial Serial;

void setup();
void loop();

int main() {
  setup();
  for (;; fakeMillis += 100) loop();
}
