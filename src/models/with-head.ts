import { PlinthError } from "../base/index.ts";
import { type NdArray, sameShape } from "../engine/index.ts";
import type { ModelFamily } from "./family.ts";
import { toNdArray } from "./formats/safetensors.ts";
import { type HeadKind, headConfig, headOf, type Problem } from "./head-config.ts";
import { initParameters } from "./init.ts";
import type { Model } from "./model.ts";

export interface HeadOptions {
  readonly head: HeadKind;
  /** Names of the classes, of heads that classify. */
  readonly labels?: readonly string[] | undefined;
  readonly problem?: Problem | undefined;
  /** Of the new weights; default 0. */
  readonly seed?: number | undefined;
  /** Is told which weights are new and which were dropped. */
  readonly onNote?: ((text: string) => void) | undefined;
}

/**
 * The model with another head on the same trunk: what the checkpoint has for it is taken, the rest starts afresh (and is listed
 * in `fresh`), the old head's weights go. A head of the same kind and size is kept as it is. Throws PlinthError when the architecture
 * has no such head.
 */
export function withHead(model: Model, { head: kind, labels, problem, seed = 0, onNote }: HeadOptions): Model {
  const { family, config, params } = model;
  const present = headOf(config);
  const head = headConfig(kind, labels ?? (present.kind === kind ? present.labels : undefined), problem);
  if (JSON.stringify(head) === JSON.stringify(present)) return model;
  checkHead(family, kind);
  const before = family.parameters(config);
  if (model.quantized !== undefined || [...params.keys()].some((name) => !Object.hasOwn(before, name))) {
    throw new PlinthError("the head of a quantised or adapted model cannot change", "choose the head first");
  }
  const changed = Object.freeze({ ...config, head });
  const specs = family.parameters(changed);
  const kept = (name: string): NdArray | undefined => {
    const { shape } = specs[name] as (typeof specs)[string];
    const array = params.get(name) ?? unusedTensor(model, name);
    return array !== undefined && sameShape(array.shape, shape) ? array : undefined;
  };
  const fresh = Object.keys(specs).filter((name) => kept(name) === undefined);
  const started = initParameters(
    Object.fromEntries(fresh.map((name) => [name, specs[name] as (typeof specs)[string]])),
    seed,
  );
  const dropped = Object.keys(before).filter((name) => !Object.hasOwn(specs, name));
  if (fresh.length > 0) onNote?.(`new weights of the ${kind} head: ${fresh.join(", ")}`);
  if (dropped.length > 0) onNote?.(`weights of the ${present.kind} head dropped: ${dropped.join(", ")}`);
  return {
    ...model,
    config: changed,
    params: new Map(Object.keys(specs).map((name) => [name, (kept(name) ?? started.get(name)) as NdArray])),
    fresh,
    source: undefined,
  };
}

/** Throws PlinthError when an architecture has no such head. */
function checkHead({ modelType, heads = {} }: ModelFamily, kind: HeadKind): void {
  if (heads[kind] !== undefined) return;
  const names = Object.keys(heads);
  throw new PlinthError(
    `${modelType} has no head "${kind}"`,
    names.length === 0 ? "use another architecture" : `use one of ${names.join(", ")}`,
  );
}

/** A tensor that the checkpoint holds and the model's own head does not need. */
function unusedTensor({ source, family }: Model, name: string): NdArray | undefined {
  for (const { file, tensors } of source?.files ?? []) {
    for (const { name: stored, holds } of tensors) {
      if (!("inert" in holds)) continue;
      if (stored === name || (family.checkpoint.optionalPrefix ?? "") + stored === name) {
        return toNdArray(holds.inert, stored, file);
      }
    }
  }
  return undefined;
}
