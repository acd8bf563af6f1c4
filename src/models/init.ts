import { sha256 } from "../base/index.ts";
import { allocateHost, fillNormal, NdArray, sizeOf } from "../engine/index.ts";
import type { ParameterSpec } from "./family.ts";

/** Fresh float32 parameters. Each draws from its own stream, keyed by the seed and its name. */
export function initParameters(specs: Readonly<Record<string, ParameterSpec>>, seed: number): Map<string, NdArray> {
  return new Map(Object.entries(specs).map(([name, spec]) => [name, initParameter(name, spec, seed)]));
}

function initParameter(name: string, { shape, init }: ParameterSpec, seed: number): NdArray {
  const data = allocateHost("float32", sizeOf(shape));
  if (init.kind === "ones") data.fill(1);
  if (init.kind === "normal") {
    const ownSeed = Number.parseInt(sha256(`${seed}/${name}`).slice(0, 13), 16);
    fillNormal(data, { seed: ownSeed, std: init.std });
  }
  return new NdArray("float32", shape, data);
}
