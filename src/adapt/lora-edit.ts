import { add, dropout, foldKey, mul, type Tensor, type Tree } from "../engine/index.ts";
import { linear, type ModuleWrap, wrapModule } from "../models/index.ts";

/** What a LoRA adds to the layers it sits on. */
export interface LoraScale {
  /** alpha / rank, or alpha / sqrt(rank) with rsLoRA. */
  readonly scale: number;
  /** Applied to the input of the low-rank path while training. */
  readonly dropout: number;
}

/**
 * Puts a wrap around every module that has `<module>.lora_A.weight` [r,in] and `<module>.lora_B.weight` [out,r] among
 * the parameters: y = layer(x) + scale · B A dropout(x), whichever way the layer stores its own weight. Subtrees
 * without are shared, not copied. `key` turns dropout on. Throws naming a module that the tree does not have.
 * Source: Hu et al. 2021, section 4.1.
 */
export function editLora(
  tree: Tree<Tensor>,
  parameters: Readonly<Record<string, Tensor>>,
  options: LoraScale,
  key?: Tensor,
): Tree<Tensor> {
  // The model's own dropouts count their streams from 0 under `key`; these have a key of their own.
  const ownKey = key === undefined || options.dropout === 0 ? undefined : foldKey(key, 1);
  let edited = tree;
  let stream = 0;
  for (const [name, down] of Object.entries(parameters)) {
    if (!name.endsWith(".lora_A.weight")) continue;
    const path = name.slice(0, -".lora_A.weight".length);
    const up = parameters[`${path}.lora_B.weight`] as Tensor;
    const site = stream++;
    const wrap: ModuleWrap = (x, plain) => {
      const dropped = ownKey === undefined ? x : dropout(x, options.dropout, ownKey, { stream: site });
      // Scaled where it is narrow, so that the gradient of y serves all products as it is.
      const inner = mul(linear(dropped, { weight: down }), options.scale);
      return add(plain(x), linear(inner, { weight: up }));
    };
    edited = wrapModule(edited, path, wrap);
  }
  return edited;
}
