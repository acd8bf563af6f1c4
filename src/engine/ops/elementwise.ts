import { defineOp, type NoGradient, type OpDef, type OpSample, type SampleInput, type VjpRule } from "../ir/op.ts";
import { broadcastShapes, type Shape } from "../ir/shape.ts";
import type { Attrs, TensorType } from "../ir/tensor.ts";
import { at, broadcastData, expectFloating, oracle, promote } from "./support.ts";

/** A pure function of one element of each (broadcast) input. */
export interface ElementwiseSpec {
  readonly name: string;
  readonly arity: 1 | 2 | 3;
  /** Fused bytecode (`native/KERNELS.md`); int32 operands use `intOpcode`. "identity" emits nothing. */
  readonly opcode: string;
  readonly intOpcode?: string;
  /** Element type of the output, or an error. Default: {@link promote} of floating operands (and int32 with an opcode). */
  readonly dtype?: (inputs: readonly TensorType[], attrs: Attrs) => TensorType["dtype"];
  readonly evaluate: (a: number, b: number, c: number) => number;
  /** Replaces `evaluate` for int32 operands, where wrapping matters. */
  readonly evaluateInt?: (a: number, b: number) => number;
  readonly gradient: VjpRule | NoGradient;
  readonly samples: readonly OpSample[];
}

/** Registers an elementwise op: shapes broadcast, and the node joins fused kernels. */
export function defineElementwise(spec: ElementwiseSpec): OpDef {
  const { name } = spec;
  const isInt = (inputs: readonly TensorType[]) => spec.intOpcode !== undefined && inputs[0]?.dtype === "int32";
  return defineOp({
    name,
    infer: (inputs, attrs) => {
      if (inputs.length !== spec.arity)
        throw new Error(`${name}: expected ${spec.arity} inputs, got ${inputs.length}.`);
      const shape = inputs.reduce<Shape>((acc, t) => broadcastShapes(acc, t.shape, name), []);
      if (spec.dtype !== undefined) return [{ shape, dtype: spec.dtype(inputs, attrs) }];
      const dtype = promote(inputs, name);
      if (!isInt(inputs)) expectFloating(at(inputs, 0, name), name);
      return [{ shape, dtype }];
    },
    evaluate: (inputs, _, [type]) => {
      const out = oracle(type as TensorType);
      const [a, b, c] = inputs.map((x) => broadcastData(x, out.shape));
      const fn = isInt(inputs) && spec.evaluateInt !== undefined ? spec.evaluateInt : spec.evaluate;
      const n = out.data.length;
      if (a === undefined) throw new Error(`${name}: no inputs`);
      if (b === undefined) for (let i = 0; i < n; i++) out.data[i] = spec.evaluate(a[i] as number, 0, 0);
      else if (c === undefined) for (let i = 0; i < n; i++) out.data[i] = fn(a[i] as number, b[i] as number, 0);
      else for (let i = 0; i < n; i++) out.data[i] = spec.evaluate(a[i] as number, b[i] as number, c[i] as number);
      return [out];
    },
    gradient: spec.gradient,
    lower: {
      kind: "elementwise",
      opcode: (_, inputs) => (isInt(inputs) ? (spec.intOpcode as string) : spec.opcode),
    },
    samples: spec.samples,
  });
}

type SampleOptions = Omit<SampleInput, "shape" | "dtype"> & Pick<OpSample, "tolerance" | "noGradientCheck">;

function split(options: SampleOptions): [Omit<SampleInput, "shape" | "dtype">, Omit<OpSample, "name" | "inputs">] {
  const { tolerance, noGradientCheck, ...range } = options;
  return [
    range,
    {
      ...(tolerance === undefined ? {} : { tolerance }),
      ...(noGradientCheck === undefined ? {} : { noGradientCheck }),
    },
  ];
}

/** The usual samples of a one-operand op. */
export function unarySamples(options: SampleOptions = {}): OpSample[] {
  const [range, rest] = split(options);
  const shapes: Record<string, Shape> = {
    normal: [4, 8],
    scalar: [],
    empty: [3, 0],
    "size-1": [1],
    odd: [7, 13],
    larger: [37, 129],
  };
  return Object.entries(shapes).map(([name, shape]) => ({
    name,
    inputs: [{ shape, dtype: "float32", ...range }],
    ...rest,
  }));
}

/** The usual samples of a two-operand op, broadcasting included. */
export function binarySamples(
  options: SampleOptions & { dtypes?: readonly SampleInput["dtype"][]; second?: SampleOptions } = {},
): OpSample[] {
  const { dtypes = ["float32"], second, ...shared } = options;
  const [range, rest] = split(shared);
  const pairs: Record<string, readonly [Shape, Shape]> = {
    normal: [
      [4, 8],
      [4, 8],
    ],
    scalar: [[], [3]],
    empty: [[0, 3], [3]],
    "size-1": [[1], [1]],
    "odd, broadcast row": [[7, 13], [13]],
    "broadcast both": [
      [5, 1, 3],
      [4, 1],
    ],
    larger: [
      [37, 129],
      [37, 1],
    ],
  };
  return dtypes.flatMap((dtype) =>
    Object.entries(pairs).map(([name, [a, b]]) => ({
      name: `${name}, ${dtype}`,
      inputs: [
        { shape: a, dtype, ...range },
        { shape: b, dtype, ...range, ...second },
      ],
      ...rest,
    })),
  );
}
