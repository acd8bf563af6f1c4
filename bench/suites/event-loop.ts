import { benchEventLoop } from "../event-loop.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "how late a 1 ms timer is while a GPT trains on all cores",
  run: benchEventLoop,
};
