import { dtypeBytes } from "../ir/dtype.ts";
import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { sizeOf } from "../ir/shape.ts";
import { inScope, type Node, reapply, type Tensor } from "../ir/tensor.ts";
import { Rebuild } from "./rewrite.ts";

/** Kernels that cost about as much as reading what they would otherwise have stored. */
const cheapKernels = new Set(["layerNorm", "rmsNorm", "randomUniform", "randomBits"]);
/** Nodes in a row that are computed again for one value. */
const maxDepth = 6;
/** Values below this share of the program's memory are not worth it. */
const leastShare = 1 / 512;

/**
 * Computes cheap values again (activations, norms, dropout masks) rather than keeping them across the moment at which
 * most memory is in use, where all that they are made of is kept anyway: the backward pass of a block reads the input of
 * its activation function in any case. The bits are the same. For the native backend, behind the passes that merge equal
 * values.
 */
export function rematerialise(graph: Graph): Graph {
  const order = topologicalOrder([...graph.inputs, ...graph.outputs]);
  const lives = new Lifetimes(order, graph);
  const { peakAt, peakBytes } = lives;
  const isSmall = (t: Tensor, of: number): boolean => bytesOf(t) * 8 <= of;
  /** Whether a value can be had at `position`, kept or made again of what is kept. */
  const isAtHand = (t: Tensor, position: number, bytes: number, depth: number): boolean =>
    lives.isKeptUntil(t, position) || isSmall(t, bytes) || canRemake(t.node, position, bytes, depth + 1);
  const canRemake = (node: Node, position: number, bytes: number, depth: number): boolean =>
    depth <= maxDepth && isCheap(node) && node.inputs.every((t) => isAtHand(t, position, bytes, depth));

  /** Values made again for their users behind the peak. */
  const remade = new Map<Node, number>();
  for (const node of order.slice(0, peakAt)) {
    const t = lives.output(node);
    if (isView(node) || t === undefined || bytesOf(t) < peakBytes * leastShare || !isCheap(node)) continue;
    const late = lives.firstUseAfter(node, peakAt);
    if (late !== undefined && canRemake(node, late, bytesOf(t), 0)) remade.set(node, late);
  }
  if (remade.size === 0) return graph;

  const rebuild = new Rebuild();
  const { find } = rebuild;
  const again = new Map<Node, readonly Tensor[]>();
  /** The value as users behind the peak see it. */
  const findLate = (t: Tensor): Tensor => {
    const { node } = t;
    const wanted = remade.get(node);
    if (wanted !== undefined && t.index === 0) return remake(node, wanted, bytesOf(t))[t.index] as Tensor;
    // A view of something made again is a view of the new one.
    if (!isView(node) || node.inputs.length === 0) return find(t);
    const source = node.inputs[0] as Tensor;
    if (findLate(source) === find(source)) return find(t);
    return copy(node, [findLate(source)])[t.index] as Tensor;
  };
  const copy = (node: Node, inputs: readonly Tensor[]): readonly Tensor[] => {
    const known = again.get(node) ?? inScope(node.scope, () => reapply(node, inputs));
    again.set(node, known);
    return known;
  };
  const remake = (node: Node, position: number, bytes: number): readonly Tensor[] =>
    again.get(node) ??
    copy(
      node,
      node.inputs.map((t) => {
        if (remade.has(t.node) && t.index === 0) return findLate(t);
        if (lives.isKeptUntil(t, position) || isSmall(t, bytes)) return findLate(t);
        return remake(t.node, position, bytes)[t.index] as Tensor;
      }),
    );
  order.forEach((node, i) => {
    if (node.op.name === "input") return;
    rebuild.copy(node, node.inputs.map(i > peakAt ? findLate : find));
  });
  return rebuild.finish(graph);
}

function isCheap(node: Node): boolean {
  return node.op.lower.kind === "elementwise" || isView(node) || cheapKernels.has(node.op.name);
}

function isView(node: Node): boolean {
  return node.op.lower.kind === "view";
}

function bytesOf({ shape, dtype }: Tensor): number {
  return sizeOf(shape) * dtypeBytes[dtype];
}

/** When values are used, in a program run in its order, and where most memory is in use. */
class Lifetimes {
  readonly peakAt: number;
  readonly peakBytes: number;
  readonly #first = new Map<Node, Tensor>();
  /** Positions of the users of a node's memory, in order; views are looked through. */
  readonly #uses = new Map<Node, number[]>();
  readonly #roots = new Map<Node, Node>();

  constructor(order: readonly Node[], graph: Graph) {
    const end = order.length;
    order.forEach((node, i) => {
      const source = node.inputs[0]?.node;
      this.#roots.set(node, isView(node) && source !== undefined ? this.#root(source) : node);
      for (const t of node.inputs) {
        this.#first.set(t.node, t.index === 0 ? t : (this.#first.get(t.node) ?? t));
        if (!isView(node)) this.#use(t.node, i);
      }
    });
    for (const t of graph.outputs) this.#use(t.node, end);
    for (const t of graph.inputs) this.#use(t.node, end);
    const change = new Float64Array(end + 2);
    // What leaves the program has memory of its own.
    const leaving = new Set(graph.outputs.map((t) => this.#root(t.node)));
    order.forEach((node, i) => {
      if (isView(node) || node.op.lower.kind === "source" || leaving.has(node)) return;
      const bytes = node.outputs.reduce((sum, type) => sum + sizeOf(type.shape) * dtypeBytes[type.dtype], 0);
      change[i] = (change[i] as number) + bytes;
      const last = (this.#uses.get(node)?.at(-1) ?? i) + 1;
      change[last] = (change[last] as number) - bytes;
    });
    let live = 0;
    let peakAt = 0;
    let peakBytes = 0;
    for (let i = 0; i < end; i++) {
      live += change[i] as number;
      if (live > peakBytes) [peakAt, peakBytes] = [i, live];
    }
    this.peakAt = peakAt;
    this.peakBytes = peakBytes;
  }

  /** The node's first output, where something uses it. */
  output(node: Node): Tensor | undefined {
    const t = this.#first.get(node);
    return t?.index === 0 ? t : undefined;
  }

  firstUseAfter(node: Node, position: number): number | undefined {
    return this.#uses.get(node)?.find((at) => at > position);
  }

  isKeptUntil({ node }: Tensor, position: number): boolean {
    const root = this.#root(node);
    return root.op.lower.kind === "source" || (this.#uses.get(root)?.at(-1) ?? -1) >= position;
  }

  #root(node: Node): Node {
    return this.#roots.get(node) ?? node;
  }

  #use(node: Node, position: number): void {
    const root = this.#root(node);
    const uses = this.#uses.get(root);
    if (uses === undefined) this.#uses.set(root, [position]);
    else uses.push(position);
  }
}
