import type { Backend, Precision } from "../engine/index.ts";
import type { Model } from "../models/index.ts";

/** How a model runs. */
export interface RunOptions {
  readonly backend?: Backend | undefined;
  /** Arithmetic: give what the model was trained with, and sampler and trainer agree on every bit. Default "f32". */
  readonly precision?: Precision | undefined;
}

/** Keeps what `make` gives for a model and a way to run it, so that compiled programs are shared between calls. */
export function perModel<T>(make: (model: Model, run: RunOptions) => T): (model: Model, run: RunOptions) => T {
  const made = new WeakMap<Model, Map<Backend | undefined, Map<Precision, T>>>();
  return (model, { backend, precision = "f32" }) => {
    const backends = made.get(model) ?? new Map<Backend | undefined, Map<Precision, T>>();
    made.set(model, backends);
    const known = backends.get(backend) ?? new Map<Precision, T>();
    backends.set(backend, known);
    const value = known.get(precision) ?? make(model, { backend, precision });
    known.set(precision, value);
    return value;
  };
}

/** {@link RunOptions} as `jit` takes them. */
export function jitOptions({ backend, precision = "f32" }: RunOptions) {
  return { ...(backend === undefined ? {} : { backend }), precision };
}
