import assert from "node:assert/strict";
import { test } from "node:test";
import { killAndResume } from "../../bench/kill-resume.ts";

test("20 random kills, also inside checkpoints: resumed runs end with the bits of an uninterrupted one", async (t) => {
  const outcome = await killAndResume({ kills: 20 });
  t.diagnostic(JSON.stringify(outcome));
  assert.ok(outcome.kills >= 20);
  assert.ok(outcome.insideCheckpoint > 0, "no kill fell inside a checkpoint");
  assert.deepEqual(outcome.differences, []);
});
