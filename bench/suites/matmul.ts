import { benchMatmul } from "../matmul.ts";
import type { Suite } from "../suite.ts";

export const suite: Suite = {
  summary: "matrix products against oneDNN and PyTorch, and against the machine's limit",
  run: ({ quick }) => benchMatmul(quick ? { rounds: 1, turnSeconds: 0.005, groups: ["decoding with GPT-2 124M"] } : {}),
};
