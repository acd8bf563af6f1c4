import { hostInfo } from "../src/engine/index.ts";
import { ownStep } from "./own-step.ts";
import type { BenchRow } from "./peer.ts";
import { stepShapes } from "./step-race.ts";

/** Milliseconds that a 1 ms timer may be late at the 99th percentile. */
const limit = 20;
const seconds = 12;

/**
 * How late a 1 ms timer of the same process is while the 12M GPT trains on all cores. Every call into the engine is
 * traced: the last row is the longest that any of them held the JavaScript thread, so a longer delay came from elsewhere
 * (another program, the garbage collector, the kernel's scheduler).
 */
export async function benchEventLoop(): Promise<readonly BenchRow[]> {
  const own = await ownStep(stepShapes["gpt-12m"], "f32");
  await own.run();
  const late: number[] = [];
  let running = true;
  const timer = (async () => {
    while (running) {
      const due = performance.now() + 1;
      await new Promise((resolve) => setTimeout(resolve, 1));
      late.push(performance.now() - due);
    }
  })();
  const held: number[] = [];
  const begin = performance.now();
  while (performance.now() - begin < seconds * 1000) {
    const start = performance.now();
    const step = own.run();
    held.push(performance.now() - start);
    await step;
  }
  running = false;
  await timer;
  late.sort((a, b) => a - b);
  const at = (q: number): number => late[Math.floor(q * (late.length - 1))] as number;
  const name = `1 ms timer while the GPT trains on ${hostInfo().threads} threads`;
  return [
    {
      name: `${name}, late at p99`,
      value: at(0.99),
      unit: "ms",
      peer: "limit",
      peerValue: limit,
      ratio: limit / at(0.99),
      target: 1,
    },
    { name: "  worst of all", value: at(1), unit: "ms", note: `${late.length} timers` },
    { name: "  longest call into the engine", value: Math.max(...held), unit: "ms", note: `${held.length} steps` },
  ];
}
