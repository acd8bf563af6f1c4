/** Runs a training step a few times and prints the process's peak resident memory: node step-memory.js '{"shape", "precision"}' */
import type { Precision } from "../src/engine/index.ts";
import { ownStep, type StepShape } from "./own-step.ts";

const { shape, precision } = JSON.parse(process.argv[2] as string) as { shape: StepShape; precision: Precision };
const step = await ownStep(shape, precision);
for (let i = 0; i < 3; i++) await step.run();
const peakBytes = process.resourceUsage().maxRSS * 1024;
process.stdout.write(`${JSON.stringify({ peakBytes, plannedBytes: step.peakBytes })}\n`);
