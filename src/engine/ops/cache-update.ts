import { PlinthError } from "../../base/index.ts";
import { defineOp, type OpSample, type Oracle } from "../ir/op.ts";
import { formatShape, sameShape, sizeOf } from "../ir/shape.ts";
import { apply1, type Tensor, type TensorType } from "../ir/tensor.ts";
import { at, expectDType, expectShape, fail, formatType, oracle } from "./support.ts";

function sample(name: string, shape: readonly number[], length: number, start: readonly number[]): OpSample {
  const [B, S, ...rest] = shape as [number, number, ...number[]];
  return {
    name,
    inputs: [
      { shape: [B, S, ...rest], dtype: "float32" },
      { shape: [B, length, ...rest], dtype: "float32" },
      { shape: [B], dtype: "int32", values: start },
    ],
  };
}

/** (x[B,S,...], update[B,T,...], start int32[B]) -> x with rows start[b]..start[b]+T of row b replaced. */
export const cacheUpdateOp = defineOp({
  name: "cacheUpdate",
  infer: (inputs) => {
    const [x, update, start] = [0, 1, 2].map((i) => at(inputs, i, "cacheUpdate")) as [
      TensorType,
      TensorType,
      TensorType,
    ];
    const fits =
      x.shape.length >= 2 &&
      update.shape.length === x.shape.length &&
      update.shape[0] === x.shape[0] &&
      (update.shape[1] as number) <= (x.shape[1] as number) &&
      sameShape(update.shape.slice(2), x.shape.slice(2));
    if (!fits || update.dtype !== x.dtype) {
      fail(
        "cacheUpdate",
        `an update [B,T,...] that fits into ${formatType(x)}`,
        `${update.dtype}${formatShape(update.shape)}`,
        "check the cache's length and element type",
      );
    }
    expectDType(start, "int32", "cacheUpdate", "start");
    expectShape(start, x.shape.slice(0, 1), "cacheUpdate", "start");
    return [x];
  },
  evaluate: ([x, update, start], _, [type]) => {
    const out = oracle(type as TensorType, (x as Oracle).data.slice());
    const [B, S, ...rest] = out.shape as [number, number, ...number[]];
    const T = (update as Oracle).shape[1] as number;
    const row = sizeOf(rest);
    for (let b = 0; b < B; b++) {
      const from = (start as Oracle).data[b] as number;
      if (from < 0 || from + T > S) {
        throw new PlinthError(
          `cacheUpdate: rows ${from}..${from + T} lie outside the cache of ${S}`,
          "allocate a longer cache, or stop generating earlier",
        );
      }
      out.data.set((update as Oracle).data.subarray(b * T * row, (b + 1) * T * row), (b * S + from) * row);
    }
    return [out];
  },
  gradient: { noGradient: "it serves cached decoding; training recomputes keys and values" },
  lower: { kind: "kernel", kernel: "cache_update", strided: [1], inPlace: [[0, 0]] },
  samples: [
    sample("normal", [2, 6, 4], 2, [0, 4]),
    sample("heads, odd", [3, 7, 3, 5], 3, [1, 0, 4]),
    sample("whole", [1, 3, 2], 3, [0]),
    sample("nothing", [2, 3, 2], 0, [0, 3]),
    sample("empty", [0, 3, 2], 1, []),
    sample("size-1", [1, 1], 1, [0]),
    sample("larger", [2, 33, 129], 1, [32, 5]),
  ],
});

/** x[B,S,...] with rows start[b]..start[b]+T-1 of each batch row replaced by update[B,T,...]; in place where x dies here. */
export function cacheUpdate(x: Tensor, update: Tensor, start: Tensor): Tensor {
  return apply1(cacheUpdateOp, [x, update, start]);
}
