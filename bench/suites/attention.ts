import { benchAttention } from "../attention.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "attention and its gradient against PyTorch's fused kernel, and against the machine's limit",
  run: ({ quick }) => benchAttention(quick ? { rounds: 2, turnSeconds: 0.01, longest: 1024 } : {}),
};
