import { PlinthError } from "../../base/index.ts";
import { isFloating } from "../ir/dtype.ts";
import { topologicalOrder } from "../ir/graph.ts";
import type { OpDef, VjpRule } from "../ir/op.ts";
import { formatShape, sameShape } from "../ir/shape.ts";
import { inScope, type Node, Tensor } from "../ir/tensor.ts";
import { add } from "../ops/arithmetic.ts";
import { cast } from "../ops/cast.ts";
import { scalar } from "../ops/source.ts";
import { customGradientOp, stopGradientOp } from "../ops/stop-gradient.ts";
import { broadcastTo } from "../ops/sum.ts";

/**
 * Vector-Jacobian product by reverse accumulation: cotangents of `outputs` (undefined = zero) to cotangents of `wrt`
 * (undefined where nothing flows). Adds nodes to the graph; evaluates nothing. Where a tensor has several users their
 * contributions are added in reverse order of creation, so the result is one fixed expression.
 * Throws a PlinthError naming op, scope and reason when the path crosses an op without a gradient.
 */
export function vjp(
  outputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  wrt: readonly Tensor[],
): (Tensor | undefined)[] {
  return accumulateBackwards(topologicalOrder(outputs), outputs, cotangents, wrt);
}

function accumulateBackwards(
  order: Node[],
  outputs: readonly Tensor[],
  cotangents: readonly (Tensor | undefined)[],
  wrt: readonly Tensor[],
): (Tensor | undefined)[] {
  const depends = dependents(order, wrt);
  const accumulated = new Map<Node, (Tensor | undefined)[]>();
  const accumulate = (t: Tensor, cotangent: Tensor | undefined): void => {
    if (cotangent === undefined || !isFloating(t.dtype)) return;
    if (!sameShape(cotangent.shape, t.shape)) {
      throw new Error(
        `grad: the rule of a user of ${t.node.op.name} gave ${formatShape(cotangent.shape)} for ${formatShape(t.shape)}.`,
      );
    }
    const slots = accumulated.get(t.node) ?? t.node.outputs.map(() => undefined);
    const previous = slots[t.index];
    slots[t.index] = previous === undefined ? cotangent : add(previous, cotangent);
    accumulated.set(t.node, slots);
  };
  outputs.forEach((t, i) => {
    accumulate(t, cotangents[i]);
  });
  for (const node of order.reverse()) {
    const slots = accumulated.get(node);
    if (slots === undefined || !depends.has(node)) continue;
    const needed = node.inputs.map((t) => isFloating(t.dtype) && (depends.has(t.node) || isWanted(t, wrt)));
    if (!needed.includes(true)) continue;
    const rule = ruleOf(node);
    const inputs = inScope(node.scope, () =>
      rule({
        node,
        inputs: node.inputs,
        outputs: node.outputs.map((_, i) => new Tensor(node, i)),
        cotangents: slots,
        needed,
      }),
    );
    node.inputs.forEach((t, i) => {
      if (needed[i]) accumulate(t, inputs[i]);
    });
  }
  return wrt.map((t) => accumulated.get(t.node)?.[t.index]);
}

function isWanted(t: Tensor, wrt: readonly Tensor[]): boolean {
  return wrt.some((w) => w.node === t.node && w.index === t.index);
}

/** Nodes through which some output depends differentiably on one of `wrt`. */
function dependents(order: readonly Node[], wrt: readonly Tensor[]): Set<Node> {
  const depends = new Set<Node>();
  const wanted = new Map<Node, Set<number>>();
  for (const t of wrt) wanted.set(t.node, (wanted.get(t.node) ?? new Set()).add(t.index));
  for (const node of order) {
    if (node.op === stopGradientOp) continue;
    const differentiable =
      node.op === customGradientOp ? node.inputs.slice(0, node.attrs["count"] as number) : node.inputs;
    if (differentiable.some((t) => isFloating(t.dtype) && (depends.has(t.node) || wanted.get(t.node)?.has(t.index)))) {
      depends.add(node);
    }
  }
  return depends;
}

function ruleOf(node: Node): VjpRule {
  const { gradient, name } = node.op;
  if (typeof gradient === "function") return gradient;
  const where = node.scope === "" ? "" : ` (in ${node.scope})`;
  throw new PlinthError(
    `grad: ${name} has no gradient: ${gradient.noGradient}${where}`,
    "take it off the path to the parameters, or wrap its input in stopGradient",
  );
}

/** The gradient of an op found by differentiating its decomposition: right for every output, if not the fastest. */
export function vjpOfDecomposition(op: OpDef, context: Parameters<VjpRule>[0]): (Tensor | undefined)[] {
  if (op.decompose === undefined) throw new Error(`${op.name}: no decomposition to differentiate.`);
  const { inputs, needed } = context;
  const outputs = op.decompose(inputs, context.node.attrs);
  const wanted = inputs.filter((_, i) => needed[i]);
  // Inputs may depend on each other outside the op: only nodes of the decomposition itself count here.
  const outside = new Set(topologicalOrder(inputs));
  const order = topologicalOrder(outputs).filter((node) => !outside.has(node));
  const found = accumulateBackwards(order, outputs, context.cotangents, wanted);
  const seen = new Set<Tensor>();
  let next = 0;
  return inputs.map((t, i) => {
    if (!needed[i]) return undefined;
    const cotangent = found[next++];
    // A tensor passed twice received the total already at its first place.
    if ([...seen].some((s) => s.node === t.node && s.index === t.index)) return undefined;
    seen.add(t);
    return cotangent;
  });
}

/**
 * Gradients of a scalar loss with respect to tensors, in their element types; zeros where the loss does not depend on
 * one. Throws when the loss is not a floating scalar, a tensor is not floating, or an op on the way has no gradient.
 */
export function grad(loss: Tensor, wrt: readonly Tensor[]): Tensor[] {
  if (loss.rank !== 0 || !isFloating(loss.dtype)) {
    throw new PlinthError(
      `grad: expected a floating scalar loss, got ${loss.dtype}${formatShape(loss.shape)}`,
      "reduce it with sum or mean",
    );
  }
  const odd = wrt.find((t) => !isFloating(t.dtype));
  if (odd !== undefined) {
    throw new PlinthError(
      `grad: expected floating tensors, got ${odd.dtype}${formatShape(odd.shape)}`,
      "differentiate with respect to floating tensors only",
    );
  }
  return vjp([loss], [scalar(1, loss.dtype)], wrt).map((cotangent, i) => {
    const t = wrt[i] as Tensor;
    return cotangent === undefined ? broadcastTo(scalar(0, t.dtype), t.shape) : cast(cotangent, t.dtype);
  });
}
