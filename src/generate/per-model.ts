import type { Backend } from "../engine/index.ts";
import type { Model } from "../models/index.ts";

/** Keeps what `make` gives for a model and backend, so that compiled programs are shared between calls. */
export function perModel<T>(
  make: (model: Model, backend: Backend | undefined) => T,
): (model: Model, backend: Backend | undefined) => T {
  const made = new WeakMap<Model, Map<Backend | undefined, T>>();
  return (model, backend) => {
    const known = made.get(model) ?? new Map<Backend | undefined, T>();
    made.set(model, known);
    const value = known.get(backend) ?? make(model, backend);
    known.set(backend, value);
    return value;
  };
}
