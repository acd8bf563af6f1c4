import assert from "node:assert/strict";
import { test } from "node:test";
import { HostRandom } from "../../src/engine/index.ts";
import { SpikeDetector } from "../../src/train/index.ts";

test("a noisy falling loss is no spike", () => {
  const random = new HostRandom(5);
  const spike = new SpikeDetector();
  for (let step = 0; step < 2000; step++) {
    assert.equal(spike.add(1.5 + 3 * Math.exp(-step / 300) + 0.1 * random.normal()), false, `step ${step}`);
  }
});

test("one bad batch is forgiven, a loss that stays high stops the run", () => {
  const spike = new SpikeDetector({ patience: 3, window: 16 });
  for (let i = 0; i < 16; i++) spike.add(2 + 0.01 * (i % 2));
  assert.equal(spike.add(9), false);
  assert.equal(spike.suspicious, true);
  assert.equal(spike.add(2), false);
  assert.equal(spike.suspicious, false);
  assert.deepEqual([spike.add(9), spike.add(9), spike.add(9)], [false, false, true]);
});

test("nothing is said before enough is known", () => {
  const spike = new SpikeDetector({ patience: 1, window: 40 });
  for (const loss of [1, 100, 1, 100, 1]) assert.equal(spike.add(loss), false);
});

test("the state continues where it was", () => {
  const [a, b] = [new SpikeDetector({ patience: 2, window: 8 }), new SpikeDetector({ patience: 2, window: 8 })];
  for (const loss of [1, 1.1, 0.9, 1, 30]) a.add(loss);
  b.restore(JSON.parse(JSON.stringify(a.state)));
  assert.deepEqual(b.limit, a.limit);
  assert.equal(b.add(30), true);
});
