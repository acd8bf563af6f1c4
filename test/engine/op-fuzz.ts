/**
 * Ops with arguments that nobody chose: random shapes (empty, size 1, odd), element types and attributes, made from the
 * samples of each op. Each must be refused with a message, or give on the native backend what the oracle gives.
 */
import { PlinthError } from "../../src/base/index.ts";
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { simplify } from "../../src/engine/compile/simplify.ts";
import { decodeFloat64 } from "../../src/engine/ir/convert.ts";
import { type DType, dtypeBytes } from "../../src/engine/ir/dtype.ts";
import { type OpDef, type OpSample, registeredOps } from "../../src/engine/ir/op.ts";
import { sizeOf } from "../../src/engine/ir/shape.ts";
import type { Attrs } from "../../src/engine/ir/tensor.ts";
import "../../src/engine/ops/index.ts";
import type { Backend, HostRandom } from "../../src/engine/index.ts";
import { assertClose, buildCase, type Case, randomFor, runOn, toOracle } from "./contract-support.ts";

export interface FuzzResult {
  readonly equal: number;
  readonly refused: number;
  readonly failures: readonly string[];
}

/** As many samples as `count`, or as fit into `seconds`; the same ones for the same seed. */
export async function fuzzOps(
  backend: Backend,
  options: { seed: number; count?: number; seconds?: number; op?: string },
): Promise<FuzzResult> {
  const started = performance.now();
  const ops = registeredOps().filter(({ samples, name }) => samples.length > 0 && (options.op ?? name) === name);
  const failures: string[] = [];
  let [equal, refused] = [0, 0];
  const isOver = (i: number): boolean =>
    options.count === undefined ? performance.now() - started > (options.seconds ?? 10) * 1000 : i >= options.count;
  for (let i = 0; !isOver(i); i++) {
    // A generator of its own for each: another op changes nothing for those there are.
    const op = ops[i % ops.length] as OpDef;
    const random = randomFor("fuzz", op.name, `${options.seed}`, `${Math.floor(i / ops.length)}`);
    // Ops that only gradients apply, with operands that fit: nobody else can call them.
    const isInner = /Grad$|^customGradient$/.test(op.name);
    const sample = mutate(op.samples[random.int(op.samples.length)] as OpSample, random, !isInner);
    try {
      if (await agrees(op, sample, backend, random.int(2) === 0)) equal++;
    } catch (error) {
      if (isRefusal(error)) refused++;
      else failures.push(`seed ${options.seed}, ${i}: ${describe(op, sample)}: ${(error as Error).stack}`);
    }
  }
  return { equal, refused, failures };
}

/** Errors made for readers: by the engine, not by the language. */
function isRefusal(error: unknown): boolean {
  if (error instanceof PlinthError) return error.message.length > 12;
  const isPlain = error instanceof Error && error.constructor === Error;
  return isPlain && /^\w+: .*(expected|cannot|outside|must|needs|does not|only|at most)/s.test(error.message);
}

/** One unit in the last place of the narrow floats. */
const lastPlace: Partial<Record<DType, number>> = { bfloat16: 2 ** -7, float16: 2 ** -10 };

/** Compares with the oracle. False where the sample is too large to be worth it. */
async function agrees(op: OpDef, sample: OpSample, backend: Backend, strided: boolean): Promise<boolean> {
  const types = [...sample.inputs, ...op.infer(sample.inputs, sample.attrs ?? {})];
  if (types.some(({ shape }) => sizeOf(shape) > 2000)) return false;
  let built: Case;
  try {
    built = buildCase(op, sample, { strided });
  } catch (error) {
    if (isRefusal(error)) throw error;
    throw new Error(`building: ${(error as Error).stack}`);
  }
  const expected = evaluateOracle(built.graph.inputs, built.arrays.map(toOracle), built.graph.outputs);
  const actual = await runOn(backend, { ...built, graph: simplify(built.graph) });
  actual.forEach((array, i) => {
    const e = (expected[i]?.data ?? new Float64Array()).map((v) =>
      // float16 has nothing between 65504 and infinity
      array.dtype === "float16" && Math.abs(v) >= 65520 ? Math.sign(v) * Number.POSITIVE_INFINITY : v,
    );
    let largest = 1;
    for (const v of e) if (Number.isFinite(v)) largest = Math.max(largest, Math.abs(v));
    const part = i < built.valueCount ? `output ${i}` : `gradient ${i - built.valueCount}`;
    const places = [array, ...sample.inputs].map(({ dtype }) => 4 * (lastPlace[dtype] ?? 0));
    const tolerance = Math.max(10 * (sample.tolerance ?? 1e-5), ...places);
    assertClose(decodeFloat64(array.dtype, array.data), e, tolerance, part, largest);
  });
  return true;
}

/** Another sample of the same kind: sizes replaced everywhere they occur, and now and then something that does not fit. */
function mutate(sample: OpSample, random: HostRandom, maySpoil: boolean): OpSample {
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)] as T;
  const sizes = [0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 33, 64, 65, 100];
  const renamed = new Map<number, number>();
  // Size 1 may mean "any" as easily as "one": it is left alone where shapes must go on fitting.
  const known = [...new Set(sample.inputs.flatMap(({ shape }) => shape))].filter((n) => maySpoil || n > 1);
  for (const size of known) if (random.int(2) === 0) renamed.set(size, pick(sizes));
  let inputs = sample.inputs.map((x) => ({ ...x, shape: x.shape.map((n) => renamed.get(n) ?? n) }));
  let attrs = replaceNumbers(sample.attrs ?? {}, (n) =>
    renamed.has(n) && n > 3 ? (renamed.get(n) as number) : n,
  ) as Attrs;
  const spoil = maySpoil ? random.int(4) : 3;
  if (spoil === 0) {
    // One input alone.
    const at = random.int(Math.max(inputs.length, 1));
    inputs = inputs.map((x, i) => {
      if (i !== at) return x;
      const shape = [...x.shape];
      const kind = random.int(4);
      if (kind === 0 && shape.length > 0) shape[random.int(shape.length)] = pick(sizes);
      else if (kind === 1) shape.pop();
      else if (kind === 2) shape.unshift(pick([1, 2, 3]));
      else return { ...x, dtype: pick(Object.keys(dtypeBytes) as DType[]) };
      return { ...x, shape };
    });
  } else if (spoil === 1) {
    let left = 1 + random.int(3);
    attrs = replaceNumbers(attrs, (n) => {
      if (random.int(3) !== 0 || left-- <= 0) return n;
      return pick([0, 1, -1, 2, n + 1, n - 1, -n, 7, 100, 2 ** 31, 0.5]);
    }) as Attrs;
  }
  // Given values belong to the sizes they were made for.
  inputs = inputs.map(({ values, ...x }, i) =>
    values !== undefined && sizeOf(x.shape) === sizeOf(sample.inputs[i]?.shape ?? []) ? { ...x, values } : x,
  );
  const { tolerance } = sample;
  return { name: "fuzzed", inputs, attrs, ...(tolerance === undefined ? {} : { tolerance }) };
}

function replaceNumbers(value: unknown, replace: (n: number) => number): unknown {
  if (typeof value === "number") return replace(value);
  if (Array.isArray(value)) return value.map((item) => replaceNumbers(item, replace));
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replaceNumbers(item, replace)]));
}

function describe(op: OpDef, { inputs, attrs }: OpSample): string {
  return `${op.name}(${inputs.map((x) => `${x.dtype}[${x.shape}]`).join(", ")}) ${JSON.stringify(attrs)}`;
}
