import { PlinthError } from "../../base/index.ts";
import type { Graph } from "../ir/graph.ts";
import type { NdArray } from "../ir/nd-array.ts";
import { formatShape, sameShape } from "../ir/shape.ts";
import type { Tensor } from "../ir/tensor.ts";

/** Throws PlinthError unless the arrays are of the graph's inputs' shapes and element types. */
export function checkInputs(graph: Graph, inputs: readonly NdArray[]): void {
  if (inputs.length !== graph.inputs.length) {
    throw new PlinthError(`run: expected ${graph.inputs.length} arrays, got ${inputs.length}`);
  }
  inputs.forEach((array, i) => {
    const { dtype, shape } = graph.inputs[i] as Tensor;
    if (array.dtype === dtype && sameShape(array.shape, shape)) return;
    throw new PlinthError(
      `run: expected ${dtype}${formatShape(shape)} for ${graph.inputNames[i]}, got ${array.dtype}${formatShape(array.shape)}`,
      "compile the program for this shape",
    );
  });
}
