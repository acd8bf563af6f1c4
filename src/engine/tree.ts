/**
 * Trees: plain objects and arrays whose leaves are tensors, arrays, specs or numbers. Model parameters are trees whose
 * dotted paths are the parameter names of the reference checkpoint.
 */
export type Tree<T> = T | { readonly [key: string]: Tree<T> } | readonly Tree<T>[];

/** True for the containers of a tree: plain objects (prototype Object or null) and arrays. Class instances are leaves. */
export function isBranch(node: unknown): node is { readonly [key: string]: unknown } | readonly unknown[] {
  if (Array.isArray(node)) return true;
  if (typeof node !== "object" || node === null) return false;
  const prototype: unknown = Object.getPrototypeOf(node);
  return prototype === Object.prototype || prototype === null;
}

/** Leaves with their dotted paths, in insertion order. Undefined values are skipped. */
export function flatten<T>(tree: Tree<T>): [path: string, leaf: T][] {
  const out: [string, T][] = [];
  const visit = (node: unknown, path: string): void => {
    if (node === undefined) return;
    if (isBranch(node)) {
      for (const [key, child] of Object.entries(node)) visit(child, path === "" ? key : `${path}.${key}`);
    } else {
      out.push([path, node as T]);
    }
  };
  visit(tree, "");
  return out;
}

/** Same structure with each leaf replaced. */
export function mapTree<T, U>(tree: Tree<T>, fn: (leaf: T, path: string) => U): Tree<U> {
  const visit = (node: unknown, path: string): unknown => {
    if (node === undefined) return undefined;
    if (Array.isArray(node)) return node.map((child, i) => visit(child, path === "" ? `${i}` : `${path}.${i}`));
    if (isBranch(node)) {
      return Object.fromEntries(
        Object.entries(node).map(([key, child]) => [key, visit(child, path === "" ? key : `${path}.${key}`)]),
      );
    }
    return fn(node as T, path);
  };
  return visit(tree, "") as Tree<U>;
}

/** Nested objects from dotted paths: `{"h.0.ln.weight": x}` gives `{h: {0: {ln: {weight: x}}}}`. */
export function unflatten<T>(leaves: Iterable<readonly [path: string, leaf: T]>): Tree<T> {
  const root: Record<string, unknown> = {};
  for (const [path, leaf] of leaves) {
    const keys = path.split(".");
    let node = root;
    for (const key of keys.slice(0, -1)) node = (node[key] ??= {}) as Record<string, unknown>;
    node[keys[keys.length - 1] as string] = leaf;
  }
  return root as Tree<T>;
}
