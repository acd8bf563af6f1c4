import { benchConv } from "../conv.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "convolutions and their gradients against PyTorch",
  run: ({ quick }) => benchConv(quick ? { rounds: 2, turnSeconds: 0.01 } : {}),
};
