import { defineSchedule, warmupRate } from "./schedule.ts";

/**
 * Warmup-stable-decay: linear warmup, constant `lr`, then over the last `decaySteps` (default a fifth of the run) down to
 * `minLr` (default 0) as 1 - sqrt(progress). A stable phase can be prolonged without knowing the length in advance.
 * Source: Hu et al. 2024 (MiniCPM); shape of the decay from Hägele et al. 2024, section 3.
 */
export const wsd = defineSchedule({
  name: "wsd",
  rate(step, options) {
    const warmup = warmupRate(step, options);
    if (warmup !== undefined) return warmup;
    const { lr, minLr = 0, steps, decaySteps = Math.ceil(steps / 5) } = options;
    const progress = decaySteps === 0 ? 0 : Math.max(0, (step - (steps - decaySteps)) / decaySteps);
    return minLr + (lr - minLr) * (1 - Math.sqrt(Math.min(1, progress)));
  },
});
