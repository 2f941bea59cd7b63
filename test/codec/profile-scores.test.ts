import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { PipelineConfig } from "#src/codec/pipeline-config.js";
import { type ProfileCandidate, profileScores, tryPipeline } from "#src/codec/profile-scores.js";

const json: PipelineConfig = { framing: "lines", maxFrameBytes: 256, codec: "json" };
const idle: PipelineConfig = { framing: "idle", idle: 50, maxFrameBytes: 256, codec: "json" };
const candidate = (name: string, pipeline: PipelineConfig, ...fields: string[]): ProfileCandidate => ({
  name,
  pipeline,
  fields: new Set(fields),
});
const piece = (text: string, at?: number) => ({ bytes: Buffer.from(text), ...(at === undefined ? {} : { at }) });

describe("the score of a capture", () => {
  it("does not mind what was cut at its beginning and its end, but what lies between", async () => {
    const cut = await tryPipeline(json, [piece('5}\n{"a":1}\n{"a":2}\n{"a":')], 0);
    assert.deepEqual(cut, { bytes: 24, readings: 2, refused: 1, ignored: 0, discarded: 1, explained: 1 });
    const hurt = await tryPipeline(json, [piece('{"a":1}\nrubbish, much of it, again and again\n{"a":2}\n')], 0);
    assert.ok(hurt.explained < 0.5, String(hurt.explained));
  });

  it("is nothing where nothing was understood", async () => {
    const trial = await tryPipeline(json, [piece("\n\n\n\nno\n")], 0);
    assert.equal(trial.explained, 0);
    const [score] = await profileScores([], [candidate("json", json)], 0);
    assert.deepEqual([score?.explained, score?.fits], [0, false]);
  });

  it("takes the times of the pieces for the pauses between frames", async () => {
    const heard = [piece('{"a"', 0), piece(":1}", 10), piece('{"a":2}', 100)];
    assert.equal((await tryPipeline(idle, heard, 0)).readings, 2);
    assert.equal((await tryPipeline(idle, [piece('{"a":1}')], 0)).readings, 1, "the end is a pause");
  });

  it("goes by the fields where several speak the same language", async () => {
    const names = (scores: readonly { readonly name: string }[]): string[] => scores.map(({ name }) => name);
    const candidates = [candidate("rain", json, "rain_mm"), candidate("wind", json, "wind_speed_m_s")];
    assert.deepEqual(names(await profileScores([piece('{"wind_speed_m_s":3}\n')], candidates, 0)), ["wind", "rain"]);
    assert.deepEqual(names(await profileScores([piece('[{"rain_mm":3}]\n')], candidates, 0)), ["rain", "wind"]);
  });
});
