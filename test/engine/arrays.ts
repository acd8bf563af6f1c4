import { HostRandom, NdArray, type Shape, type TensorType } from "../../src/engine/index.ts";

/** Makes float32 arrays of normal values, each call with the next ones of the seed's. */
export function normalArrays(seed: number, std = 1): (...shape: number[]) => NdArray {
  const random = new HostRandom(seed);
  return (...shape) => {
    const array = NdArray.zeros("float32", shape);
    for (let i = 0; i < array.size; i++) array.data[i] = std * random.normal();
    return array;
  };
}

/** A float32 argument to compile for. */
export const like = (shape: Shape): TensorType => ({ shape, dtype: "float32" });
