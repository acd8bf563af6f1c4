import type { Buffer, Lowered, Step, View } from "./lowered.ts";

/**
 * Products of one input with several quantised weights (queries, keys and values; gate and up) become one kernel call: its
 * threads share one loop over all of them, and the input is rounded once. Weights are inputs or constants of the
 * program, so every product can be where the first of them is.
 */
export function joinProducts(lowered: Lowered): Lowered {
  const first = new Map<string, number>();
  const ids = new Map<unknown, number>();
  const idOf = (value: unknown): number => {
    if (!ids.has(value)) ids.set(value, ids.size);
    return ids.get(value) as number;
  };
  const steps: (Step | undefined)[] = [];
  for (const step of lowered.steps) {
    const at = steps.push(step) - 1;
    const [x, words] = step.inputs as [View, View];
    if (step.kernel !== "quantized_matmul" || words.buffer.source === undefined) continue;
    const key = `${idOf(x.buffer)} ${x.offset} ${x.dtype} ${x.shape.join()} groups ${step.ints[1]}`;
    const earlier = first.get(key);
    const joined = earlier === undefined ? undefined : steps[earlier];
    // The same weight again: computed anew for a gradient, far from where it was.
    if (earlier === undefined || joined === undefined || joined.inputs.some(({ buffer }) => buffer === words.buffer)) {
      first.set(key, at);
      continue;
    }
    steps[earlier] = join(joined, step);
    steps[at] = undefined;
  }
  return { ...lowered, steps: steps.filter((step) => step !== undefined) };
}

function join(a: Step, b: Step): Step {
  return {
    ...a,
    inputs: [...a.inputs, ...b.inputs.slice(1)],
    outputs: [...a.outputs, ...b.outputs],
    ints: [...a.ints, ...b.ints],
  };
}

/**
 * Unpacks quantised weights right before their first reader. They wait for nothing, so the order of the program says little
 * of when they are wanted, and unpacked they are large.
 */
export function unpackLate(lowered: Lowered): Lowered {
  const waiting = new Map<Buffer, Step>();
  const steps: Step[] = [];
  for (const step of lowered.steps) {
    const [words] = step.inputs;
    const [weight] = step.outputs;
    if (step.kernel === "dequantize" && words?.buffer.source !== undefined && weight !== undefined) {
      waiting.set(weight.buffer, step);
      continue;
    }
    for (const { buffer } of step.inputs) {
      const unpacking = waiting.get(buffer);
      if (unpacking !== undefined) steps.push(unpacking);
      waiting.delete(buffer);
    }
    steps.push(step);
  }
  // What nobody reads is an output.
  return { ...lowered, steps: [...steps, ...waiting.values()] };
}
