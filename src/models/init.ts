import { PlinthError, sha256 } from "../base/index.ts";
import { allocateHost, fillNormal, formatBytes, hostInfo, NdArray, sizeOf } from "../engine/index.ts";
import type { ParameterSpec } from "./family.ts";

/**
 * Fresh float32 parameters. Each draws from its own stream, keyed by the seed and its name. Throws PlinthError when they
 * do not fit in memory, before it takes any.
 */
export function initParameters(specs: Readonly<Record<string, ParameterSpec>>, seed: number): Map<string, NdArray> {
  const bytes = 4 * Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const { availableMemory } = hostInfo();
  if (bytes > availableMemory) {
    throw new PlinthError(
      `out of memory before start: the weights of this model need ${formatBytes(bytes)} but only ${formatBytes(availableMemory)} is available`,
      "use fewer layers, a smaller width or a smaller vocabulary",
    );
  }
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
