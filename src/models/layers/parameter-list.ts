import type { Init, ParameterSpec } from "../family.ts";

/** What a layer with a product may have besides its weight. */
export interface DenseOptions {
  readonly bias?: boolean;
  /** How the weight starts; default as the list says. */
  readonly init?: Init;
  /** As {@link ParameterSpec.isHead}. */
  readonly isHead?: boolean;
}

/** Collects a model's parameters under their checkpoint names, in the order in which they are named. */
export class ParameterList {
  readonly specs: Record<string, ParameterSpec> = {};
  readonly #init: Init;

  /** Weights start normally distributed with standard deviation `std`, unless said otherwise. */
  constructor({ std }: { std: number }) {
    this.#init = { kind: "normal", std };
  }

  /** `<name>.weight[rows,width]` */
  embedding(name: string, rows: number, width: number, { init = this.#init }: Pick<DenseOptions, "init"> = {}): void {
    this.specs[`${name}.weight`] = { shape: [rows, width], init, decay: true, module: "embedding" };
  }

  /** `<name>.weight[width]`, which starts at 1, and `<name>.bias[width]` */
  layerNorm(name: string, width: number, { bias = true }: { bias?: boolean } = {}): void {
    this.rmsNorm(name, width);
    if (bias) this.bias(name, width, "norm");
  }

  /** `<name>.weight[width]`, which starts at 1, or at 0 where the layer adds 1 to it */
  rmsNorm(name: string, width: number, { start = "ones" }: { start?: "ones" | "zeros" } = {}): void {
    this.specs[`${name}.weight`] = { shape: [width], init: { kind: start }, decay: false, module: "norm" };
  }

  /** `<name>.weight[to,from]` and, where asked for, `<name>.bias[to]` */
  linear(
    name: string,
    from: number,
    to: number,
    { bias = false, init = this.#init, isHead = false }: DenseOptions = {},
  ): void {
    const mark = isHead ? { isHead } : {};
    this.specs[`${name}.weight`] = { shape: [to, from], init, decay: true, module: "linear", ...mark };
    if (bias) this.bias(name, to, "linear");
  }

  /** `<name>.weight[from,to]` and `<name>.bias[to]`, as GPT-2 has them */
  conv1d(name: string, from: number, to: number, { init = this.#init }: Pick<DenseOptions, "init"> = {}): void {
    this.specs[`${name}.weight`] = { shape: [from, to], init, decay: true, module: "conv1d" };
    this.bias(name, to, "conv1d");
  }

  /** `<name>.bias[width]` */
  bias(name: string, width: number, module: ParameterSpec["module"] = "linear"): void {
    this.specs[`${name}.bias`] = { shape: [width], init: { kind: "zeros" }, decay: false, module };
  }
}
