import assert from "node:assert/strict";
import { test } from "node:test";
import { findSchedule, scheduleNames } from "../../src/train/index.ts";

const close = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-12, `${a} is not ${b}`);

test("cosine: linear warmup, half a cosine, exactly minLr at the last step", () => {
  const { rate } = findSchedule("cosine");
  const options = { lr: 1e-3, minLr: 1e-4, steps: 2000, warmupSteps: 100 };
  close(rate(1, options), 1e-3 / 101);
  close(rate(100, options), (1e-3 * 100) / 101);
  close(rate(101, options), 1e-3);
  close(rate(2000, options), 1e-4);
  for (const step of [150, 999, 1500]) {
    const progress = (step - 101) / (2000 - 101);
    close(rate(step, options), 1e-4 + ((1e-3 - 1e-4) * (1 + Math.cos(Math.PI * progress))) / 2);
  }
  close(rate(50, { lr: 1, steps: 50 }), 0.1);
  close(rate(1, { lr: 1, steps: 1 }), 1);
});

test("wsd: warmup, a plateau, then 1 - sqrt over the decay", () => {
  const { rate } = findSchedule("wsd");
  const options = { lr: 2, steps: 100, warmupSteps: 10, decaySteps: 40 };
  close(rate(5, options), (2 * 5) / 11);
  for (const step of [11, 35, 60]) close(rate(step, options), 2);
  for (const step of [61, 70, 99]) close(rate(step, options), 2 * (1 - Math.sqrt((step - 60) / 40)));
  close(rate(100, options), 0);
  // A fifth of the run by default.
  close(rate(80, { lr: 1, steps: 100 }), 1);
  assert.ok(rate(81, { lr: 1, steps: 100 }) < 1);
});

test("every schedule stays between 0 and lr, whatever the lengths", () => {
  for (const name of scheduleNames()) {
    for (const steps of [1, 2, 3, 10]) {
      for (const warmupSteps of [0, 1, steps]) {
        for (let step = 1; step <= steps; step++) {
          const rate = findSchedule(name).rate(step, { lr: 0.5, steps, warmupSteps });
          assert.ok(rate >= 0 && rate <= 0.5, `${name} ${step}/${steps} warmup ${warmupSteps}: ${rate}`);
        }
      }
    }
  }
});

test("an unknown schedule names the nearest", () => {
  assert.throws(() => findSchedule("cosin"), { message: 'schedule "cosin" is not known. Fix: use "cosine".' });
});
