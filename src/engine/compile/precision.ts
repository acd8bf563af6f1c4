import { isNarrow } from "../ir/dtype.ts";
import type { Graph } from "../ir/graph.ts";
import { sizeOf } from "../ir/shape.ts";
import { apply, type Node, type Tensor, type TensorType } from "../ir/tensor.ts";
import { cast } from "../ops/cast.ts";
import type { ProductOperands } from "../ops/matmul.ts";
import { rewriteGraph } from "./rewrite.ts";
import { type Use, Uses } from "./uses.ts";

/** How a program computes: all in float32, or its products on bfloat16 operands with float32 sums. */
export type Precision = "f32" | "bf16";
export const precisions: readonly Precision[] = ["f32", "bf16"];
/** What products round their operands to. */
export const operandsOfPrecision = { f32: "float32", bf16: "bfloat16" } as const satisfies Record<
  Precision,
  ProductOperands
>;

/**
 * Mixed precision as a pass over a simplified graph, forward and backward alike. With "bf16":
 *
 * - products and attention read their operands as bfloat16 (`operands` of their ops) and sum in float32;
 * - a value that only they read is stored in bfloat16, which changes no result: they would have rounded it. Gradients
 *   that are also summed (those of biases) are stored so too, and the sum reads what is stored;
 * - a product (with its bias) that goes into an activation is rounded to bfloat16, in forward-only programs too, so that
 *   what the backward pass keeps is half the size and training and inference give the same bits.
 *
 * Everything else stays float32: what is added to the residual stream, that stream, norms and their statistics, logits,
 * losses, gradients of parameters, the optimiser. The rounding is in the graph, so every backend rounds in the same
 * places. After Micikevicius et al. 2018 and Kalamkar et al. 2019.
 */
export function applyPrecision(graph: Graph, precision: Precision): Graph {
  if (precision === "f32") return graph;
  const { isRounded, isAccepted } = new Rounding(graph);
  return rewriteGraph(graph, (node, inputs) => {
    const changed = inputs.some((tensor, i) => tensor.dtype !== node.inputs[i]?.dtype);
    if (passesOn(node)) {
      if (!changed) return undefined;
      const narrow = inputs.every((tensor) => isNarrow(tensor.dtype)) || isAccepted(node);
      const to = inputs.map((tensor) => cast(tensor, narrow ? "bfloat16" : "float32"));
      return apply(node.op, to, node.attrs);
    }
    const rounds = node.outputs.map((_, i) => isRounded(node, i));
    if (!changed && node.op.operands === undefined && !rounds.includes(true)) return undefined;
    const given = inputs.map((tensor, i) => cast(tensor, node.inputs[i]?.dtype ?? "float32"));
    const attrs = node.op.operands === undefined ? node.attrs : { ...node.attrs, operands: "bfloat16" };
    return apply(node.op, given, attrs).map((tensor, i) => (rounds[i] ? cast(tensor, "bfloat16") : tensor));
  });
}

/** Ops whose outputs hold their inputs' elements as they are: what is stored narrow before them is narrow behind them. */
function passesOn({ op }: Node): boolean {
  return op.lower.kind === "view" || op.name === "concat";
}

/** What readers think of getting a value rounded. */
interface Demand {
  /** All of them take it so. */
  readonly all: boolean;
  /** Some product is among them: there is something to gain. */
  readonly some: boolean;
}
const refused: Demand = { all: false, some: false };

/** Which outputs of which nodes are rounded to bfloat16. */
class Rounding {
  readonly #uses: Uses;
  readonly #demands = new Map<Node, Demand[]>();

  constructor(graph: Graph) {
    this.#uses = new Uses(graph);
    for (const node of this.#uses.order.toReversed()) {
      this.#demands.set(
        node,
        node.outputs.map((_, i) => this.#demandOf(node, i)),
      );
    }
  }

  /** For nodes that make new values: true where output `index` is stored in bfloat16. */
  readonly isRounded = (node: Node, index: number): boolean => {
    if (node.op.lower.kind === "source" || node.outputs[index]?.dtype !== "float32") return false;
    const demand = this.#demands.get(node)?.[index] ?? refused;
    return (demand.all && demand.some) || (isLinear(node) && this.#goesIntoActivation(node, index));
  };

  /** For nodes that pass values on: true where all readers want them rounded. */
  readonly isAccepted = (node: Node): boolean => {
    const demands = this.#demandedOutputs(node);
    return demands.every(({ all }) => all) && demands.some(({ some }) => some);
  };

  #demandOf(node: Node, index: number): Demand {
    const uses = this.#uses.of({ node, index });
    if (this.#uses.isOutput({ node, index }) || uses.length === 0) return refused;
    const demands = uses.map((use) => this.#demandOfUse(use));
    return { all: demands.every(({ all }) => all), some: demands.some(({ some }) => some) };
  }

  #demandOfUse({ node, slot }: Use): Demand {
    const { op } = node;
    if (passesOn(node)) {
      const demands = this.#demandedOutputs(node);
      return { all: demands.every(({ all }) => all), some: demands.some(({ some }) => some) };
    }
    if (op.name === "sum") return { all: true, some: false };
    const reads = op.lower.kind === "kernel" && op.lower.narrowInputs?.includes(slot) === true;
    if (op.operands === undefined || !reads) return refused;
    return { all: true, some: op.operands.includes(slot) };
  }

  /** Of the outputs that anything reads. */
  #demandedOutputs(node: Node): Demand[] {
    return (this.#demands.get(node) ?? []).filter(
      (_, index) => this.#uses.of({ node, index }).length > 0 || this.#uses.isOutput({ node, index }),
    );
  }

  /**
   * True where the value's readers are elementwise ops, products and sums, and one is not a mere addition. The backward
   * pass adds none of another kind to those of the forward pass, so programs with and without it agree.
   */
  #goesIntoActivation(node: Node, index: number): boolean {
    let bends = false;
    const visit = (node: Node, index: number): boolean => {
      if (this.#uses.isOutput({ node, index })) return false;
      return this.#uses.of({ node, index }).every((use) => {
        const { op } = use.node;
        if (op.name === "broadcastTo") return false;
        if (op.lower.kind === "view") return use.node.outputs.every((_, i) => visit(use.node, i));
        if (op.lower.kind === "elementwise") bends ||= !additions.has(op.name);
        return op.lower.kind === "elementwise" || this.#demandOfUse(use).all;
      });
    };
    return visit(node, index) && bends;
  }
}

const additions: ReadonlySet<string> = new Set(["add", "sub", "neg", "cast", "stopGradient"]);

/**
 * True for a product, and for a product plus something of fewer axes that is repeated over it: a bias. Not by size: a bias of
 * one row's product is as large as that, and a token alone must be rounded as it is among others.
 */
function isLinear(node: Node): boolean {
  if (node.op.name === "matmul") return true;
  if (node.op.name !== "add") return false;
  const type = node.outputs[0] as TensorType;
  const [a, b] = node.inputs as [Tensor, Tensor];
  const repeated = ({ rank, shape, node: { op } }: Tensor): boolean =>
    rank < type.shape.length || sizeOf(shape) < sizeOf(type.shape) || op.name === "broadcastTo";
  return (repeated(a) && isLinear(origin(b))) || (repeated(b) && isLinear(origin(a)));
}

/** The node behind views that keep all elements. */
function origin(tensor: Tensor): Node {
  const { node } = tensor;
  const keeps = node.op.name === "reshape" || node.op.name === "transpose" || node.op.name === "barrier";
  return keeps ? origin(node.inputs[0] as Tensor) : node;
}
