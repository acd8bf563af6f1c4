import type { HeadConfig, Model, ParameterSpec } from "../models/index.ts";
import type { Parameters } from "../train/index.ts";

/** A low-rank adapter: what PEFT's `adapter_config.json` says of it, and its arrays. */
export interface Lora {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly rsLora: boolean;
  /** Last names of the modules it sits on, as PEFT lists them. */
  readonly targets: readonly string[];
  /** Where the base model came from. */
  readonly baseModel?: string | undefined;
  /** `<module>.lora_A.weight` [rank,in] and `<module>.lora_B.weight` [out,rank]. */
  readonly params: Parameters;
  /** Parameters that train whole, in place of the base's: a head that the base does not have (PEFT's `modules_to_save`). */
  readonly saved?: Parameters;
  /** The head that these belong to. */
  readonly head?: HeadConfig;
}

/** Factor of the low-rank product: alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023). */
export function loraScale({ rank, alpha, rsLora }: Pick<Lora, "rank" | "alpha" | "rsLora">): number {
  return alpha / (rsLora ? Math.sqrt(rank) : rank);
}

/** A layer that LoRA can sit on. */
export interface LinearModule {
  readonly path: string;
  readonly in: number;
  readonly out: number;
  /** The weight is stored [in, out] (GPT-2), which PEFT calls fan_in_fan_out. */
  readonly transposed: boolean;
  /** The product that gives the logits. */
  readonly isHead: boolean;
}

/** The linear layers of a model in the order of its forward pass. */
export function linearModules(model: Model): LinearModule[] {
  const specs: Record<string, ParameterSpec> = model.family.parameters(model.config);
  return Object.entries(specs).flatMap(([name, spec]) => {
    if ((spec.module !== "linear" && spec.module !== "conv1d") || !name.endsWith(".weight")) return [];
    const [rows, columns] = spec.shape as [number, number];
    const transposed = spec.module === "conv1d";
    const path = name.slice(0, -".weight".length);
    return [
      {
        path,
        in: transposed ? rows : columns,
        out: transposed ? columns : rows,
        transposed,
        isHead: spec.isHead === true,
      },
    ];
  });
}
