import { PlinthError } from "../base/index.ts";
import { HostRandom, NdArray, Tensor, type Tree } from "../engine/index.ts";
import { editFamily, type Model } from "../models/index.ts";
import { assemblePlain } from "../train/index.ts";
import { type AdapterOptions, defineAdapter } from "./adapter.ts";
import { editLora, type LoraScale } from "./lora-edit.ts";
import { type LinearModule, type Lora, linearModules, loraScale } from "./lora-modules.ts";
import { readPeft, writePeft } from "./peft.ts";

/** A new adapter that changes nothing yet: A uniform in ±1/sqrt(in), B zero, as PEFT begins. */
export function initLora(model: Model, options: AdapterOptions): Lora {
  const { rank = 8, alpha = 2 * rank, dropout = 0, rsLora = false, targets = ["all-linear"], seed = 0 } = options;
  if (!Number.isInteger(rank) || rank < 1) {
    throw new PlinthError(`rank: expected a whole number of at least 1, got ${rank}`, "give --rank 8, for example");
  }
  if (!(alpha > 0)) throw new PlinthError(`alpha: expected more than 0, got ${alpha}`, "give --alpha 16, for example");
  if (!(dropout >= 0 && dropout < 1)) {
    throw new PlinthError(
      `dropout: expected a rate from 0 to below 1, got ${dropout}`,
      "give --dropout 0.05, for example",
    );
  }
  const random = new HostRandom(seed);
  const params: Record<string, NdArray> = {};
  const modules = selectModules(model, targets);
  for (const module of modules) {
    const bound = 1 / Math.sqrt(module.in);
    const down = Float32Array.from({ length: rank * module.in }, () => bound * (2 * random.uniform() - 1));
    params[`${module.path}.lora_A.weight`] = NdArray.float32([rank, module.in], down);
    params[`${module.path}.lora_B.weight`] = NdArray.zeros("float32", [module.out, rank]);
  }
  const names = new Set(modules.map(({ path }) => path.slice(path.lastIndexOf(".") + 1)));
  return { rank, alpha, dropout, rsLora, targets: [...names], baseModel: options.baseModel, params };
}

/** Modules whose path is a target or ends in one at a dot. Throws PlinthError naming a target that matches nothing. */
function selectModules(model: Model, targets: readonly string[]): LinearModule[] {
  const modules = linearModules(model);
  const leaf = (path: string): string => path.slice(path.lastIndexOf(".") + 1);
  const available = [...new Set(modules.map(({ path }) => leaf(path)))];
  const chosen = new Set<LinearModule>();
  for (const target of targets) {
    const matching =
      target === "all-linear"
        ? modules.filter(({ path }) => leaf(path) !== "lm_head")
        : modules.filter(({ path }) => path === target || path.endsWith(`.${target}`));
    if (matching.length === 0) {
      throw new PlinthError(
        `targets: no linear layer of this ${model.family.modelType} model is called "${target}"`,
        `use all-linear, or some of ${available.join(", ")}`,
      );
    }
    for (const module of matching) chosen.add(module);
  }
  return modules.filter((module) => chosen.has(module));
}

/**
 * Low-rank adaptation (Hu et al. 2021): the model stays as it is, each target layer gets + scale · B A x. The result is
 * a folder in PEFT's format.
 */
export const lora = defineAdapter({
  method: "lora",
  summary: "train low-rank additions to linear layers; the result is a small PEFT adapter",
  adapt(model, options) {
    const adapter = initLora(model, options);
    const scale: LoraScale = { scale: loraScale(adapter), dropout: adapter.dropout };
    return {
      trainable: adapter.params,
      frozen: Object.fromEntries(model.params),
      assemble: (trainable, frozen, key) => editLora(assemblePlain({}, frozen, key), trainable, scale, key),
      decay: () => true,
      files: {
        save: (params, folder) => writePeft({ ...adapter, params }, linearModules(model), folder),
        load: async (folder) => (await readPeft(folder, linearModules(model))).params,
      },
      result: (params) => withLora(model, { ...adapter, params }),
    };
  },
});

/**
 * The model with an adapter on it, to generate and evaluate like any other: the adapter's arrays are among its
 * parameters, and its family's forward pass runs on the edited tree. The model given is left as it is. To save weights
 * that stand alone, merge instead.
 */
export function withLora(model: Model, adapter: Lora): Model {
  const { family } = model;
  const scale: LoraScale = { scale: loraScale(adapter), dropout: 0 };
  const names = Object.keys(adapter.params);
  return {
    ...model,
    params: new Map([...model.params, ...Object.entries(adapter.params)]),
    family: editFamily(family, (params) => {
      const own = Object.fromEntries(names.map((name) => [name, leafAt(params, name)]));
      return editLora(params, own, scale);
    }),
  };
}

function leafAt(tree: Tree<Tensor>, name: string): Tensor {
  let node: unknown = tree;
  for (const key of name.split(".")) node = (node as Record<string, unknown> | undefined)?.[key];
  if (node instanceof Tensor) return node;
  throw new Error(`withLora: no parameter "${name}". Fix: pass all parameters of the adapted model.`);
}

/**
 * The model with a PEFT adapter folder on it. Throws PlinthError when the adapter is damaged or belongs to another
 * model.
 */
export async function loadAdapter(model: Model, folder: string): Promise<Model> {
  return withLora(model, await readPeft(folder, linearModules(model)));
}
