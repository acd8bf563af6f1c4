import { topologicalOrder } from "../ir/graph.ts";
import type { OpDef, Oracle } from "../ir/op.ts";
import { formatShape, sameShape } from "../ir/shape.ts";
import type { Attrs, Node, Tensor, TensorType } from "../ir/tensor.ts";
import { input } from "../ops/source.ts";

/** An op's decomposition as a graph of its own. */
interface Expansion {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly order: readonly Node[];
}

const expansions = new WeakMap<Node, Expansion>();

function expand(op: OpDef, types: readonly TensorType[], attrs: Attrs): Expansion {
  if (op.decompose === undefined) throw new Error(`${op.name}: has neither evaluate nor decompose.`);
  const inputs = types.map((type) => input(type));
  const outputs = op.decompose(inputs, attrs);
  return { inputs, outputs, order: topologicalOrder(outputs) };
}

/** Float64 values of an op's outputs by its decomposition, whether or not it has `evaluate`. */
export function evaluateDecomposition(op: OpDef, inputs: readonly Oracle[], attrs: Attrs): Oracle[] {
  return runExpansion(expand(op, inputs, attrs), inputs);
}

/** Float64 values of tensors from values of the graph's inputs. Rounds nothing. */
export function evaluateOracle(
  inputs: readonly Tensor[],
  values: readonly Oracle[],
  outputs: readonly Tensor[],
): Oracle[] {
  return runExpansion({ inputs, outputs, order: topologicalOrder(outputs) }, values);
}

function runExpansion({ inputs, outputs, order }: Expansion, given: readonly Oracle[]): Oracle[] {
  const values = new Map<Node, readonly Oracle[]>(inputs.map((t, i) => [t.node, [given[i] as Oracle]]));
  for (const node of order) if (!values.has(node)) values.set(node, evaluateNode(node, valuesOf(node, values)));
  return outputs.map((t) => values.get(t.node)?.[t.index] as Oracle);
}

/** Values of a node's inputs. */
export function valuesOf(node: Node, values: ReadonlyMap<Node, readonly Oracle[]>): Oracle[] {
  return node.inputs.map((t) => values.get(t.node)?.[t.index] as Oracle);
}

/** Float64 values of a node's outputs, by `evaluate` or by its decomposition. Rounds nothing. */
export function evaluateNode(node: Node, inputs: readonly Oracle[]): readonly Oracle[] {
  const { op, attrs } = node;
  let results: readonly Oracle[];
  if (op.evaluate !== undefined) {
    results = op.evaluate(inputs, attrs, node.outputs);
  } else {
    let expansion = expansions.get(node);
    if (expansion === undefined) {
      expansion = expand(
        op,
        node.inputs.map((t) => t.type),
        attrs,
      );
      expansions.set(node, expansion);
    }
    results = runExpansion(expansion, inputs);
  }
  node.outputs.forEach((type, i) => {
    const result = results[i];
    if (result === undefined || !sameShape(result.shape, type.shape)) {
      const got = result === undefined ? "nothing" : formatShape(result.shape);
      throw new Error(`${op.name}: infer says output ${i} is ${formatShape(type.shape)}, evaluation gave ${got}.`);
    }
  });
  return results;
}
