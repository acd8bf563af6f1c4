import { defineSchedule, warmupRate } from "./schedule.ts";

/** Linear warmup, then `lr` to the end. */
export const constant = defineSchedule({
  name: "constant",
  rate: (step, options) => warmupRate(step, options) ?? options.lr,
});
