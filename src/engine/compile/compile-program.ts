import type { ExecutableStats } from "../backends/backend.ts";
import { dtypeBytes, dtypeCode } from "../ir/dtype.ts";
import type { Graph } from "../ir/graph.ts";
import { barrierOp } from "../ops/remat.ts";
import { absorbIntoKernels } from "./absorb.ts";
import { accumulateInPlace } from "./accumulate.ts";
import { costOf, type StepCost } from "./cost.ts";
import { decompose } from "./decompose.ts";
import { joinProducts, unpackLate } from "./join-products.ts";
import { lower } from "./lower.ts";
import type { View } from "./lowered.ts";
import { checkFits } from "./memory-limit.ts";
import { type MemoryPlan, planMemory } from "./memory-plan.ts";
import { type Instruction, type Operand, type ProgramSpec, storageCode } from "./program.ts";
import { rematerialise } from "./rematerialise.ts";
import { rewriteGraph } from "./rewrite.ts";

export interface CompiledProgram {
  readonly spec: ProgramSpec;
  readonly stats: ExecutableStats;
  /** Of each instruction. */
  readonly costs: readonly StepCost[];
}

/** Barriers have kept computations apart; from here on nothing is merged. */
function removeBarriers(graph: Graph): Graph {
  return rewriteGraph(graph, (node, inputs) => (node.op === barrierOp ? inputs : undefined));
}

/** A graph as a program for the native runner. Throws PlinthError when it cannot fit in memory. */
export function compileProgram(graph: Graph): CompiledProgram {
  const steps = lower(absorbIntoKernels(rematerialise(accumulateInPlace(removeBarriers(decompose(graph))))));
  const lowered = unpackLate(joinProducts(steps));
  const plan = planMemory(lowered, graph.donated);
  const instructions = plan.steps.map(
    (step, i): Instruction => ({
      kernel: step.kernel,
      inputs: step.inputs.map((view) => operand(view, plan)),
      outputs: step.outputs.map((view) => operand(view, plan)),
      ints: step.ints,
      floats: step.floats,
      workspaceOffset: plan.workspaceOffsets[i] ?? 0,
      workspaceBytes: step.workspaceBytes,
      label: step.label,
    }),
  );
  const spec: ProgramSpec = {
    arenaBytes: plan.arenaBytes,
    inputs: lowered.inputs.map(({ bytes }) => ({ bytes })),
    outputs: plan.outputs,
    constants: lowered.constants,
    instructions,
  };
  const inputBytes = total(spec.inputs);
  const outputBytes = total(spec.outputs.filter((output) => output.aliasInput === undefined));
  const constantBytes = lowered.constants.reduce((sum, data) => sum + data.byteLength, 0);
  const costs = plan.steps.map(costOf);
  const stats: ExecutableStats = {
    instructions: instructions.length,
    arenaBytes: plan.arenaBytes,
    peakBytes: inputBytes + outputBytes + constantBytes + plan.arenaBytes,
    flops: costs.reduce((sum, { flops }) => sum + flops, 0),
  };
  checkFits({ inputBytes, outputBytes, constantBytes, arenaBytes: plan.arenaBytes });
  return { spec, stats, costs };
}

function total(buffers: readonly { readonly bytes: number }[]): number {
  return buffers.reduce((sum, { bytes }) => sum + bytes, 0);
}

function operand(view: View, plan: MemoryPlan): Operand {
  const place = plan.places.get(view.buffer);
  const width = dtypeBytes[view.dtype];
  const where =
    place === undefined
      ? { storage: storageCode.constant, index: view.buffer.source?.index ?? 0, base: 0 }
      : place.kind === "arena"
        ? { storage: storageCode.arena, index: 0, base: place.offset }
        : { storage: storageCode[place.kind], index: place.index, base: 0 };
  return {
    storage: where.storage,
    index: where.index,
    byteOffset: where.base + view.offset * width,
    dtype: dtypeCode[view.dtype],
    shape: view.shape,
    strides: view.strides,
  };
}
