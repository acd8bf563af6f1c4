import { PlinthError } from "../../base/index.ts";
import { isFloating } from "../ir/dtype.ts";
import { formatShape } from "../ir/shape.ts";
import { Tensor } from "../ir/tensor.ts";
import { flatten, mapTree, type Tree } from "../tree.ts";
import { grad } from "./vjp.ts";

/** What `valueAndGrad(fn)(params, ...)` returns; `grads` has the structure of `params`. */
export interface ValueAndGrad<P, A> {
  readonly value: Tensor;
  readonly grads: P;
  readonly aux: A;
}

/**
 * A function that gives the loss and its gradients with respect to every tensor of the first argument's tree; for use
 * inside a traced function. With `hasAux` the function returns `[loss, aux]` and aux is passed through.
 * Throws naming the path when a leaf of the first argument is not a floating tensor.
 */
export function valueAndGrad<P extends Tree<Tensor>, R extends readonly unknown[]>(
  fn: (params: P, ...rest: R) => Tensor,
  options?: { readonly hasAux?: false },
): (params: P, ...rest: R) => ValueAndGrad<P, undefined>;
export function valueAndGrad<P extends Tree<Tensor>, R extends readonly unknown[], A>(
  fn: (params: P, ...rest: R) => readonly [Tensor, A],
  options: { readonly hasAux: true },
): (params: P, ...rest: R) => ValueAndGrad<P, A>;
export function valueAndGrad<P extends Tree<Tensor>, R extends readonly unknown[], A>(
  fn: (params: P, ...rest: R) => Tensor | readonly [Tensor, A],
): (params: P, ...rest: R) => ValueAndGrad<P, A | undefined> {
  return (params, ...rest) => {
    const leaves = flatten<Tensor>(params);
    for (const [path, leaf] of leaves) {
      if (!(leaf instanceof Tensor) || !isFloating(leaf.dtype)) {
        const got = leaf instanceof Tensor ? `${leaf.dtype}${formatShape(leaf.shape)}` : typeof leaf;
        throw new PlinthError(
          `valueAndGrad: expected a floating tensor at "${path}", got ${got}`,
          "pass it as a later argument",
        );
      }
    }
    const result = fn(params, ...rest);
    const [value, aux] = result instanceof Tensor ? [result, undefined] : result;
    const grads = grad(
      value,
      leaves.map(([, leaf]) => leaf),
    );
    let next = 0;
    return { value, grads: mapTree<Tensor, Tensor>(params, () => grads[next++] as Tensor) as P, aux };
  };
}
