import { type Tensor, type Tree, withScope } from "../../engine/index.ts";

/**
 * The subtree of parameters that one layer owns: `{weight, bias}`, or a block of such subtrees. An adapter changes what
 * a layer computes by setting {@link MODULE_WRAP} on a copy of its subtree; models and trainers do not know.
 */
export interface Module {
  readonly [name: string]: Tree<Tensor>;
  readonly [MODULE_WRAP]?: ModuleWrap;
}

/** Key of the function that stands around a layer. A symbol, so that it is no parameter. */
export const MODULE_WRAP: unique symbol = Symbol("plinth.moduleWrap");

/** Computes a layer's output from its input and from the layer as it would be without the wrap. */
export type ModuleWrap = (x: Tensor, plain: (x: Tensor) => Tensor) => Tensor;

/** Runs a layer, through its wrap when it has one. Every layer with parameters goes through here. */
export function callModule(p: Module, x: Tensor, plain: (x: Tensor) => Tensor): Tensor {
  const wrap = p[MODULE_WRAP];
  return wrap === undefined ? plain(x) : wrap(x, plain);
}

/**
 * The tree with a wrap on the module at a dotted path, around those it has already, or with `inside` within them: what
 * then is the layer itself to them. Copies only what lies on the way. Throws naming a module that the tree does not have.
 */
export function wrapModule(
  tree: Tree<Tensor>,
  path: string,
  wrap: ModuleWrap,
  options: { inside?: boolean } = {},
): Tree<Tensor> {
  const edit = (node: Tree<Tensor> | undefined, keys: readonly string[]): Tree<Tensor> => {
    if (typeof node !== "object" || node === null) {
      throw new Error(
        `wrapModule: the model has no module "${path}". Fix: use the adapter with the model it was made for.`,
      );
    }
    const [key, ...rest] = keys;
    if (key !== undefined) {
      return { ...node, [key]: edit((node as Record<string, Tree<Tensor>>)[key], rest) } as Tree<Tensor>;
    }
    const present = (node as Module)[MODULE_WRAP];
    const [outer, inner] = options.inside === true ? [present, wrap] : [wrap, present];
    const both: ModuleWrap =
      outer === undefined || inner === undefined ? wrap : (x, plain) => outer(x, (x) => inner(x, plain));
    return { ...node, [MODULE_WRAP]: both } as unknown as Tree<Tensor>;
  };
  return edit(tree, path.split("."));
}

/** The subtree at a dotted path: `moduleAt(params, "transformer.h.0.attn")`. Throws naming the path. */
export function moduleAt(tree: Tree<Tensor>, path: string): Module {
  let node: unknown = tree;
  for (const key of path.split(".")) node = (node as Record<string, unknown> | undefined)?.[key];
  if (typeof node !== "object" || node === null) {
    throw new Error(`moduleAt: no parameters at "${path}". Fix: pass the tree of every parameter of the model.`);
  }
  return node as Module;
}

/** The tensor called `name` in a module, or undefined. */
export function parameter(p: Module, name: string): Tensor | undefined {
  return p[name] as Tensor | undefined;
}

/** The tensor called `name` in a module. Throws when there is none. */
export function requiredParameter(p: Module, name: string): Tensor {
  const tensor = parameter(p, name);
  if (tensor === undefined) {
    throw new Error(`layer: expected a parameter "${name}", got [${Object.keys(p).join(", ")}]. Fix: check the path.`);
  }
  return tensor;
}

/** The weight of a module that is nothing but a product with it; undefined with a wrap, a bias or another form. */
export function plainWeight(p: Module): Tensor | undefined {
  const names = Object.keys(p);
  return p[MODULE_WRAP] === undefined && names.length === 1 ? parameter(p, "weight") : undefined;
}

/** Runs `build` on the subtree at `path`; new nodes carry the path as their scope. */
export function inModule<T>(tree: Tree<Tensor>, path: string, build: (p: Module) => T): T {
  return withScope(path, () => build(moduleAt(tree, path)));
}
