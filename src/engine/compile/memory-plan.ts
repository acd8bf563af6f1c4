import { dtypeBytes } from "../ir/dtype.ts";
import { copyStep, wholeView } from "./lower.ts";
import { type Buffer, isWhole, type Lowered, type Step, type View } from "./lowered.ts";

/** Where every buffer of a program lies. */
export interface MemoryPlan {
  /** The lowered steps, with copies appended for outputs that could not be written in place. */
  readonly steps: readonly Step[];
  /** Buffers not in it are graph inputs or constants and lie where those lie. */
  readonly places: ReadonlyMap<Buffer, Place>;
  readonly outputs: readonly PlannedOutput[];
  /** Scratch of each step, as an offset into the arena. */
  readonly workspaceOffsets: readonly number[];
  readonly arenaBytes: number;
}

export type Place =
  | { readonly kind: "arena"; readonly offset: number }
  | { readonly kind: "input" | "output"; readonly index: number };

export interface PlannedOutput {
  readonly bytes: number;
  readonly aliasInput?: number;
}

const alignment = 64;

/** One stretch of memory, used by one buffer or by several that take over from each other in place. */
interface Block {
  readonly bytes: number;
  start: number;
  end: number;
  input: number | undefined;
  output: number | undefined;
  offset: number;
}

/**
 * Gives every buffer its memory. Buffers that are never alive together share the arena; a kernel's output takes over an
 * input that dies there; a donated input's memory is reused, and returned where a graph output ends up in it.
 */
export function planMemory(lowered: Lowered, donated: ReadonlySet<number>): MemoryPlan {
  const steps = [...lowered.steps];
  const outputBuffers = claimOutputs(lowered, donated, steps);
  const lastUse = new Map<Buffer, number>();
  steps.forEach((step, i) => {
    for (const view of step.inputs) lastUse.set(view.buffer, i);
  });
  const end = steps.length;
  for (const buffer of outputBuffers) lastUse.set(buffer, end);

  const blocks = new Map<Buffer, Block>();
  lowered.inputs.forEach((buffer, index) => {
    blocks.set(buffer, {
      bytes: buffer.bytes,
      start: -1,
      // Memory that still belongs to the caller is never free.
      end: donated.has(index) ? (lastUse.get(buffer) ?? -1) : Number.POSITIVE_INFINITY,
      input: index,
      output: undefined,
      offset: 0,
    });
  });
  outputBuffers.forEach((buffer, index) => {
    const known = blocks.get(buffer);
    if (known !== undefined) known.output = index;
  });
  const outputIndex = new Map<Buffer, number>(outputBuffers.map((buffer, index) => [buffer, index]));
  steps.forEach((step, i) => {
    const taken = new Set<Block>();
    step.outputs.forEach((view, o) => {
      const output = outputIndex.get(view.buffer);
      const block = takeOver(step, o, i, blocks, taken, output) ?? {
        bytes: view.buffer.bytes,
        start: i,
        end: i,
        input: undefined,
        output: undefined,
        offset: 0,
      };
      taken.add(block);
      block.output ??= output;
      block.end = Math.max(i, lastUse.get(view.buffer) ?? i);
      blocks.set(view.buffer, block);
    });
  });

  const workspaces = steps.map((step, i): Block | undefined =>
    step.workspaceBytes === 0
      ? undefined
      : { bytes: step.workspaceBytes, start: i, end: i, input: undefined, output: undefined, offset: 0 },
  );
  const inArena = new Set(
    [...blocks.values(), ...workspaces].filter(
      (block): block is Block => block !== undefined && block.input === undefined && block.output === undefined,
    ),
  );
  const arenaBytes = placeBlocks([...inArena]);
  return {
    steps,
    places: new Map([...blocks].map(([buffer, block]) => [buffer, placeOf(block)])),
    outputs: outputBuffers.map((buffer) => {
      const input = blocks.get(buffer)?.input;
      return { bytes: buffer.bytes, ...(input === undefined ? {} : { aliasInput: input }) };
    }),
    workspaceOffsets: workspaces.map((block) => block?.offset ?? 0),
    arenaBytes,
  };
}

function placeOf(block: Block): Place {
  if (block.input !== undefined) return { kind: "input", index: block.input };
  if (block.output !== undefined) return { kind: "output", index: block.output };
  return { kind: "arena", offset: block.offset };
}

/**
 * Chooses for each graph output the buffer that becomes it. An output that is an input, a constant, a part of something
 * or the same as another output gets memory of its own and a copy; a donated input returned as it is needs none.
 */
function claimOutputs(lowered: Lowered, donated: ReadonlySet<number>, steps: Step[]): Buffer[] {
  const claimed = new Set<Buffer>();
  return lowered.outputs.map((view, i) => {
    const { buffer } = view;
    const own = buffer.source === undefined || (buffer.source.kind === "input" && donated.has(buffer.source.index));
    if (own && !claimed.has(buffer) && isWhole(view, dtypeBytes[view.dtype])) {
      claimed.add(buffer);
      return buffer;
    }
    const to = wholeView({ bytes: view.shape.reduce((n, size) => n * size, dtypeBytes[view.dtype]) }, view);
    steps.push(copyStep(view, to, `output ${i}`));
    claimed.add(to.buffer);
    return to.buffer;
  });
}

/** The block of an input that output `o` of step `i` may overwrite, or undefined. */
function takeOver(
  step: Step,
  o: number,
  i: number,
  blocks: ReadonlyMap<Buffer, Block>,
  taken: ReadonlySet<Block>,
  output: number | undefined,
): Block | undefined {
  const view = step.outputs[o] as View;
  const width = dtypeBytes[view.dtype];
  const candidates = step.inPlace.filter(([to]) => to === o).map(([, from]) => from);
  let best: Block | undefined;
  for (const from of candidates) {
    const input = step.inputs[from];
    const block = input === undefined ? undefined : blocks.get(input.buffer);
    if (input === undefined || block === undefined || taken.has(block) || block.end !== i) continue;
    if (block.bytes !== view.buffer.bytes || !isWhole(input, width)) continue;
    // One block returns as one output only.
    if (block.output !== undefined) continue;
    // Every other way in which this step reads the same memory must allow the overwriting too.
    const safe = step.inputs.every((other, k) => blocks.get(other.buffer) !== block || candidates.includes(k));
    if (!safe) continue;
    if (best === undefined || (output !== undefined && block.input !== undefined)) best = block;
  }
  return best;
}

/** Greedy by size: each block goes to the smallest gap left by those alive at the same time. Gives the arena's size. */
function placeBlocks(blocks: readonly Block[]): number {
  const placed: Block[] = [];
  let total = 0;
  for (const block of blocks.toSorted((a, b) => b.bytes - a.bytes || a.start - b.start)) {
    const size = align(block.bytes);
    if (size === 0) continue;
    let cursor = 0;
    let bestOffset: number | undefined;
    let bestGap = Number.POSITIVE_INFINITY;
    for (const other of placed) {
      if (other.end < block.start || block.end < other.start) continue;
      const gap = other.offset - cursor;
      if (gap >= size && gap < bestGap) {
        bestOffset = cursor;
        bestGap = gap;
      }
      cursor = Math.max(cursor, other.offset + align(other.bytes));
    }
    block.offset = bestOffset ?? cursor;
    total = Math.max(total, block.offset + size);
    placed.splice(insertionIndex(placed, block.offset), 0, block);
  }
  return total;
}

/** First position in offset order behind all smaller or equal offsets. */
function insertionIndex(placed: readonly Block[], offset: number): number {
  let low = 0;
  let high = placed.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((placed[middle] as Block).offset <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function align(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}
