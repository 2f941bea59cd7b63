/**
 * A simulated device of any profile on a serial line. One that speaks by itself says a reading each `interval`; one that is asked
 * answers: the profile's requests, or reads of its Modbus registers.
 */
import { createFrameWriter } from "../codec/pipeline.ts";
import { bytesOf } from "../codec/pipeline-config.ts";
import { pipelineOf } from "../config/profile-vectors.ts";
import type { DeviceProfile, ProfileVector } from "../config/schema-profile.ts";
import type { Clock } from "../kernel/clock.ts";
import { scenarioTime } from "./pace.ts";
import { type FrameEncoder, frameEncoder } from "./profile-frames.ts";
import { answerOf, requestIn, type SimulatedServer } from "./profile-modbus.ts";
import { readingAt, type SimulatedReading } from "./profile-reading.ts";
import type { Scenario } from "./scenario.ts";
import type { VirtualPort } from "./virtual-port.ts";

export interface ProfileDeviceOptions {
  readonly profile: DeviceProfile;
  readonly port: VirtualPort;
  readonly scenario: Scenario;
  /** How fast the scenario runs. */
  readonly speed?: number;
  /** Of a Modbus server, where it is not the profile's. */
  readonly address?: number;
  readonly clock: Clock;
}

export interface ProfileDeviceCounts {
  /** Frames put on the wire. */
  readonly frames: number;
  /** Frames that nobody was there to read. */
  readonly dropped: number;
}

/** Of a request that never becomes whole no more than this is kept. */
const MOST_HEARD_BYTES = 512;

interface Voice {
  readonly vector: ProfileVector;
  readonly encode: FrameEncoder;
}

export class ProfileDevice {
  readonly #options: ProfileDeviceOptions;
  readonly #scenarioTime: () => number;
  readonly #voices: readonly Voice[];
  readonly #requests: readonly Uint8Array[];
  #heard: Uint8Array = new Uint8Array();
  #frames = 0;
  #dropped = 0;
  #cancel: (() => void) | undefined;

  constructor(options: ProfileDeviceOptions) {
    this.#options = options;
    const { profile, clock, scenario, speed = 1 } = options;
    this.#scenarioTime = scenarioTime(clock, scenario, speed);
    this.#voices = profile.vectors.map((vector) => ({ vector, encode: frameEncoder(profile, vector) }));
    this.#requests = requestsOf(profile);
  }

  start(): void {
    const { profile, port, clock } = this.#options;
    if (isAsked(profile)) {
      port.onData((chunk) => this.#hear(chunk));
      return;
    }
    const report = (): void => {
      for (const voice of this.#spoken()) this.#say(voice);
      this.#cancel = clock.after(profile.interval, report);
    };
    this.#cancel = clock.after(profile.interval, report);
  }

  /** Says nothing more; the port stays open, it is its opener's. */
  stop(): ProfileDeviceCounts {
    this.#cancel?.();
    this.#cancel = undefined;
    return this.counts();
  }

  counts(): ProfileDeviceCounts {
    return { frames: this.#frames, dropped: this.#dropped };
  }

  /** Of vectors with the same fields the first is enough. */
  #spoken(): readonly Voice[] {
    const names = ({ vector }: Voice): string => String(vector.reading.sentence ?? "");
    return this.#voices.filter(
      (voice, index) => this.#voices.findIndex((other) => names(other) === names(voice)) === index,
    );
  }

  #say({ vector, encode }: Voice): void {
    this.#write(encode(this.#reading(vector), this.#options.clock.now()));
  }

  #reading({ reading }: ProfileVector): SimulatedReading {
    const { profile, scenario } = this.#options;
    return readingAt(reading, scenario, profile.name, this.#scenarioTime());
  }

  #write(frame: Uint8Array): void {
    if (this.#options.port.write(frame)) this.#frames++;
    else this.#dropped++;
  }

  #hear(chunk: Uint8Array): void {
    this.#heard = Buffer.concat([this.#heard, chunk]).subarray(-MOST_HEARD_BYTES);
    const { server } = this.#options.profile;
    if (server === undefined) this.#answerRequests();
    else this.#answerReads(server);
  }

  #answerReads(server: SimulatedServer): void {
    const address = this.#options.address ?? server.address;
    for (let found = requestIn(this.#heard, address); found !== undefined; found = requestIn(this.#heard, address)) {
      this.#heard = this.#heard.subarray(found.end);
      const reading = Object.assign({}, ...this.#options.profile.vectors.map((vector) => this.#reading(vector)));
      this.#write(answerOf(server, found.request, reading));
    }
  }

  /** The first request is answered as the first vector, the second as the second; where there is none, as the first. */
  #answerRequests(): void {
    for (const [index, request] of this.#requests.entries()) {
      const at = Buffer.from(this.#heard).indexOf(request);
      if (at < 0) continue;
      this.#heard = this.#heard.subarray(at + request.length);
      const voice = this.#voices[index] ?? this.#voices[0];
      if (voice !== undefined) this.#say(voice);
    }
  }
}

/** Whether a device of this profile speaks only when it is asked. */
export function isAsked({ poll, server }: DeviceProfile): boolean {
  return poll !== undefined || server !== undefined;
}

function requestsOf(profile: DeviceProfile): Uint8Array[] {
  const { poll } = profile;
  const pipeline = pipelineOf(profile);
  if (poll === undefined || pipeline === undefined) return [];
  const write = poll.framed ? createFrameWriter(pipeline) : (bytes: Uint8Array) => bytes;
  return poll.requests.map(({ send, text }) => write(send === undefined ? Buffer.from(text ?? "") : bytesOf(send)));
}
