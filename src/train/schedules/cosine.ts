import { defineSchedule, warmupRate } from "./schedule.ts";

/**
 * Linear warmup, then half a cosine from `lr` to `minLr` (default lr/10) at the last step.
 * Source: Loshchilov & Hutter 2017 (SGDR) without restarts, in GPT-3's form.
 */
export const cosine = defineSchedule({
  name: "cosine",
  rate(step, options) {
    const warmup = warmupRate(step, options);
    if (warmup !== undefined) return warmup;
    const { lr, minLr = lr / 10, steps, warmupSteps = 0 } = options;
    const progress = Math.min(1, (step - 1 - warmupSteps) / Math.max(1, steps - 1 - warmupSteps));
    return minLr + 0.5 * (lr - minLr) * (1 + Math.cos(Math.PI * progress));
  },
});
