import { add, dropout, foldKey, mul, type Tensor, type Tree } from "../engine/index.ts";
import { linear, MODULE_WRAP, type Module } from "../models/index.ts";

/** What a LoRA adds to the layers it sits on. */
export interface LoraScale {
  /** alpha / rank, or alpha / sqrt(rank) with rsLoRA. */
  readonly scale: number;
  /** Applied to the input of the low-rank path while training. */
  readonly dropout: number;
}

/**
 * Gives every module that holds `lora_A` and `lora_B` beside its weight a wrap: y = layer(x) + scale · B A dropout(x),
 * with A[r,in] and B[out,r], whichever way the layer stores its own weight. Other subtrees are shared, not copied.
 * `key` turns dropout on. Source: Hu et al. 2021, section 4.1.
 */
export function editLora(tree: Tree<Tensor>, options: LoraScale, key?: Tensor): Tree<Tensor> {
  // The model's own dropouts count their streams from 0 under `key`; these have a key of their own.
  const ownKey = key === undefined || options.dropout === 0 ? undefined : foldKey(key, 1);
  let stream = 0;

  const visit = (node: Tree<Tensor>): Tree<Tensor> => {
    if (!isModule(node)) return node;
    const edited: Record<string | symbol, unknown> = {};
    for (const [name, child] of Object.entries(node)) edited[name] = visit(child);
    const { lora_A: down, lora_B: up } = node as Record<string, Module | undefined>;
    if (down === undefined || up === undefined) return edited as Tree<Tensor>;
    const site = stream++;
    edited[MODULE_WRAP] = (x: Tensor, plain: (x: Tensor) => Tensor): Tensor => {
      const dropped = ownKey === undefined ? x : dropout(x, options.dropout, ownKey, { stream: site });
      return add(plain(x), mul(linear(linear(dropped, down), up), options.scale));
    };
    return edited as Tree<Tensor>;
  };
  return visit(tree);
}

function isModule(node: Tree<Tensor>): node is Module {
  return Object.getPrototypeOf(node) === Object.prototype;
}
