import { PlinthError } from "../base/index.ts";
import { decodeFloat32, HostRandom, NdArray, Tensor, type Tree } from "../engine/index.ts";
import { editFamily, headOf, type Model, withHead } from "../models/index.ts";
import { assemblePlain, type Parameters } from "../train/index.ts";
import { type Adaptation, type AdapterOptions, defineAdapter } from "./adapter.ts";
import { editLora, type LoraScale } from "./lora-edit.ts";
import { type LinearModule, type Lora, linearModules, loraScale } from "./lora-modules.ts";
import { readHead, readPeft, writePeft } from "./peft.ts";

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
  const names = targetNames(modules, linearModules(model));
  const head = freshHead(model);
  return { rank, alpha, dropout, rsLora, targets: [...names], baseModel: options.baseModel, params, ...head };
}

/** How PEFT finds the modules again: by their last names, or by their paths where others of the model end in that name. */
function targetNames(chosen: readonly LinearModule[], all: readonly LinearModule[]): Set<string> {
  const leaf = (path: string): string => path.slice(path.lastIndexOf(".") + 1);
  const paths = new Set(chosen.map(({ path }) => path));
  const shared = new Set(all.filter(({ path }) => !paths.has(path)).map(({ path }) => leaf(path)));
  return new Set(chosen.map(({ path }) => (shared.has(leaf(path)) ? path : leaf(path))));
}

/** What trains whole: the head that the model got and no checkpoint has trained. */
function freshHead({ config, fresh = [], params }: Model): Pick<Lora, "saved" | "head"> {
  if (fresh.length === 0) return {};
  const saved = fresh.map((name) => [name, float32Copy(params.get(name) as NdArray)] as const);
  return { saved: Object.fromEntries(saved), head: headOf(config) };
}

/** Training consumes the arrays that it gets, the model keeps its own. */
function float32Copy({ dtype, shape, data }: NdArray): NdArray {
  return new NdArray("float32", shape, dtype === "float32" ? data.slice() : decodeFloat32(dtype, data));
}

/** Modules whose path is a target or ends in one at a dot. Throws PlinthError naming a target that matches nothing. */
function selectModules(model: Model, targets: readonly string[]): LinearModule[] {
  // A new head trains whole.
  const modules = linearModules(model).filter(({ path }) => model.fresh?.includes(`${path}.weight`) !== true);
  const leaf = (path: string): string => path.slice(path.lastIndexOf(".") + 1);
  const available = [...new Set(modules.map(({ path }) => leaf(path)))];
  const chosen = new Set<LinearModule>();
  for (const target of targets) {
    const matching =
      target === "all-linear"
        ? modules.filter(({ isHead }) => !isHead)
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
 * How a new LoRA on `model` trains: its additions and, where the model has a new head, that whole. `base` is what runs, the model
 * itself or the model quantised; `edit` changes the tree of its weights first.
 */
export function adaptLora(
  model: Model,
  base: Model,
  options: AdapterOptions,
  edit: (params: Tree<Tensor>) => Tree<Tensor> = (params) => params,
): Adaptation {
  const adapter = initLora(model, options);
  const scale: LoraScale = { scale: loraScale(adapter), dropout: adapter.dropout };
  const specs = model.family.parameters(model.config);
  const { params: added, saved = {} } = adapter;
  const trained = (all: Parameters): Lora => ({
    ...adapter,
    params: pick(all, added),
    ...(adapter.saved === undefined ? {} : { saved: pick(all, saved) }),
  });
  return {
    trainable: { ...added, ...saved },
    frozen: Object.fromEntries([...base.params].filter(([name]) => !Object.hasOwn(saved, name))),
    assemble: (trainable, frozen, key) =>
      editLora(edit(assemblePlain(pick(trainable, saved), frozen, key)), trainable, scale, key),
    decay: (name) => !Object.hasOwn(saved, name) || specs[name]?.decay === true,
    files: {
      save: (params, folder) => writePeft(trained(params), linearModules(model), folder),
      load: async (folder) => {
        const { params, saved } = await readPeft(folder, linearModules(model), specs);
        return { ...params, ...saved };
      },
    },
    result: (params) => withLora(base, trained(params)),
  };
}

/**
 * Low-rank adaptation (Hu et al. 2021): the model stays as it is, each target layer gets + scale · B A x. The result is
 * a folder in PEFT's format.
 */
export const lora = defineAdapter({
  method: "lora",
  summary: "train low-rank additions to linear layers; the result is a small PEFT adapter",
  adapt: (model, options) => adaptLora(model, model, options),
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
    params: new Map([...model.params, ...Object.entries({ ...adapter.params, ...adapter.saved })]),
    fresh: undefined,
    family: editFamily(family, (params) => {
      const own = Object.fromEntries(names.map((name) => [name, leafAt(params, name)]));
      return editLora(params, own, scale);
    }),
  };
}

/** Those entries of `all` that `names` has, in its order. */
function pick<T>(all: Readonly<Record<string, T>>, names: Readonly<Record<string, unknown>> = {}): Record<string, T> {
  return Object.fromEntries(Object.keys(names).map((name) => [name, all[name] as T]));
}

function leafAt(tree: Tree<Tensor>, name: string): Tensor {
  let node: unknown = tree;
  for (const key of name.split(".")) node = (node as Record<string, unknown> | undefined)?.[key];
  if (node instanceof Tensor) return node;
  throw new Error(`withLora: no parameter "${name}". Fix: pass all parameters of the adapted model.`);
}

/**
 * The model with a PEFT adapter folder on it, under the head that the adapter has trained where it names one. Throws PlinthError
 * when the adapter is damaged or belongs to another model.
 */
export async function loadAdapter(model: Model, folder: string): Promise<Model> {
  const head = await readHead(folder);
  const { kind, labels, problem } = head ?? headOf(model.config);
  const base = head === undefined ? model : withHead(model, { head: kind, labels, problem });
  return withLora(base, await readPeft(folder, linearModules(base), base.family.parameters(base.config)));
}
