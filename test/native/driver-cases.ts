/** Programs with their inputs and what they should give, as files for `native/driver`. */
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { compileProgram } from "../../src/engine/compile/compile-program.ts";
import type { Instruction, Operand, ProgramSpec } from "../../src/engine/compile/program.ts";
import { encodeProgram, ImageWriter } from "../../src/engine/compile/program-image.ts";
import { simplify } from "../../src/engine/compile/simplify.ts";
import { type DType, dtypeCode } from "../../src/engine/ir/dtype.ts";
import type { Graph } from "../../src/engine/ir/graph.ts";
import { allocateHost, NdArray } from "../../src/engine/ir/nd-array.ts";
import { registeredOps } from "../../src/engine/ir/op.ts";
import { sizeOf } from "../../src/engine/ir/shape.ts";
import type { TensorType } from "../../src/engine/ir/tensor.ts";
import "../../src/engine/ops/index.ts";
import { type Backend, HostRandom, jit } from "../../src/engine/index.ts";
import { buildCase, toOracle } from "../engine/contract-support.ts";
import { randomGraph } from "../engine/random-graph.ts";
import { toyArguments, toyStep } from "../engine/toy-transformer.ts";

export interface DriverCase {
  readonly name: string;
  readonly spec: ProgramSpec;
  readonly inputs: readonly ArrayBufferView[];
  /** Of the first outputs; for the others only the number of threads is compared. */
  readonly expected: readonly Expected[];
  /** May be refused with a message. */
  readonly isHostile?: boolean;
}

interface Expected {
  readonly dtype: DType;
  readonly values: ArrayLike<number>;
  readonly tolerance: number;
  /** What small numbers are measured against. */
  readonly scale: number;
}

export function encodeCases(cases: readonly DriverCase[]): Uint8Array {
  const writer = new ImageWriter();
  writer.list(cases, (c) => {
    writer.text(c.name);
    writer.number(c.isHostile === true ? 1 : 0);
    writer.bytes(encodeProgram(c.spec));
    writer.list(c.inputs, (data) => writer.bytes(data));
    writer.list(c.expected, ({ dtype, values, tolerance, scale }) => {
      for (const n of [dtypeCode[dtype], tolerance, scale]) writer.number(n);
      writer.bytes(Float64Array.from(values));
    });
  });
  return writer.finish();
}

/** Every sample of every op (or of a twelfth of them) with its gradients, from row-major, strided and donated inputs, with the oracle's values. */
export function contractCases(wanted?: number): DriverCase[] {
  const cases: DriverCase[] = [];
  const ops = registeredOps();
  for (const op of wanted === undefined ? ops : ops.filter((_, i) => i % 12 === wanted % 12)) {
    for (const sample of op.samples) {
      for (const [how, strided, isDonated] of [
        ["", false, false],
        [", strided", true, false],
        [", donated", false, true],
      ] as const) {
        const built = buildCase(op, sample, { strided });
        const { arrays, valueCount } = built;
        const donated = new Set(isDonated ? arrays.keys() : []);
        const graph = simplify({ ...built.graph, donated });
        const values = evaluateOracle(built.graph.inputs, arrays.map(toOracle), built.graph.outputs);
        const tolerance = sample.tolerance ?? 1e-5;
        cases.push({
          name: `${op.name}, ${sample.name}${how}`,
          spec: compileProgram(graph).spec,
          inputs: arrays.map((array) => array.data),
          expected: values.map(({ data }, i) => ({
            dtype: (built.graph.outputs[i] as TensorType).dtype,
            values: data,
            tolerance,
            scale: i < valueCount ? 1 : largest(data),
          })),
        });
      }
    }
  }
  return cases;
}

/** Random graphs with their gradients (`random-graph.ts`). */
export function graphCases(seed: number, count: number): DriverCase[] {
  return Array.from({ length: count }, (_, i) => {
    const { graph, arrays } = randomGraph(seed * 100_000 + i);
    const values = evaluateOracle(graph.inputs, arrays.map(toOracle), graph.outputs);
    // Large terms may cancel in one output: each is measured against the largest number of all of them.
    const scale = Math.max(...values.map(({ data }) => largest(data)));
    return {
      name: `random graph ${seed * 100_000 + i}`,
      spec: compileProgram(simplify(graph)).spec,
      inputs: arrays.map((array) => array.data),
      expected: values.map(({ data }, k) => ({
        dtype: (graph.outputs[k] as TensorType).dtype,
        values: data,
        tolerance: 2e-4,
        scale,
      })),
    };
  });
}

/** Whole training steps of transformers of random sizes, as `jit` compiles them. */
export async function stepCases(seed: number, count: number): Promise<DriverCase[]> {
  const random = new HostRandom(seed);
  const cases: DriverCase[] = [];
  for (let i = 0; i < count; i++) {
    const heads = 1 + random.int(4);
    const config = {
      layers: 1 + random.int(2),
      heads,
      width: heads * (1 + random.int(20)),
      vocabulary: 3 + random.int(300),
      context: 1 + random.int(70),
      batch: 1 + random.int(5),
      plainAttention: random.int(3) === 0,
    };
    const name = `step ${JSON.stringify(config)}`;
    const recorder = recordingBackend(name, cases);
    await jit(toyStep(config), { donate: [0], backend: recorder })(...toyArguments(config));
  }
  return cases;
}

/** A backend that runs nothing and keeps the programs and inputs that it is given. */
function recordingBackend(name: string, cases: DriverCase[]): Backend {
  return {
    name: "recording",
    compile: (graph: Graph) => {
      const { spec, stats } = compileProgram(graph);
      return {
        stats,
        run: async (inputs) => {
          cases.push({ name, spec, inputs: inputs.map((array) => array.data.slice()), expected: [] });
          return graph.outputs.map(({ dtype, shape }) => new NdArray(dtype, shape, allocateHost(dtype, sizeOf(shape))));
        },
      };
    },
  };
}

/** Programs of the contract with numbers in them changed: to be refused or run, but never to crash. */
export function hostileCases(seed: number, count: number): DriverCase[] {
  const random = new HostRandom(seed);
  const sound = contractCases(seed);
  return Array.from({ length: count }, (_, i) => {
    const original = sound[random.int(sound.length)] as DriverCase;
    const { spec, what } = mutate(original.spec, random);
    return {
      ...original,
      spec,
      expected: [],
      isHostile: true,
      name: `hostile ${seed}/${i}: ${original.name}: ${what}`,
    };
  });
}

type Mutable<T> = T extends readonly (infer U)[]
  ? Mutable<U>[]
  : T extends ArrayBufferView
    ? T
    : T extends object
      ? { -readonly [K in keyof T]: Mutable<T[K]> }
      : T;

/** A copy of the spec with one to three of its numbers replaced; sizes of inputs and outputs stay. */
function mutate(original: ProgramSpec, random: HostRandom): { spec: ProgramSpec; what: string } {
  const spec = structuredClone(original) as Mutable<ProgramSpec>;
  const pick = <T>(items: readonly T[]): T => items[random.int(items.length)] as T;
  const number = (now: number): number =>
    pick([
      0,
      1,
      -1,
      2,
      3,
      now + 1,
      now - 1,
      now * 2,
      -now,
      7,
      64,
      4096,
      2 ** 31,
      -(2 ** 31),
      2 ** 32 + 1,
      2 ** 40,
      2 ** 53,
      -(2 ** 53),
    ]);
  const said: string[] = [];
  for (let changes = 1 + random.int(3); changes > 0; changes--) {
    if (spec.instructions.length === 0) break;
    const instruction = pick(spec.instructions) as Mutable<Instruction>;
    const operands = [...instruction.inputs, ...instruction.outputs];
    const operand = operands.length > 0 ? (pick(operands) as Mutable<Operand>) : undefined;
    const replace = (what: string, list: number[]): void => {
      if (list.length === 0) return;
      const at = random.int(list.length);
      said.push(`${what}[${at}] ${list[at]} -> ${(list[at] = number(list[at] as number))}`);
    };
    const moves: (() => void)[] = [
      () => replace(`${instruction.kernel} ints`, instruction.ints),
      () => replace(`${instruction.kernel} ints`, instruction.ints),
      () => {
        const list = pick([instruction.ints, instruction.floats]);
        said.push(`${instruction.kernel} ${list === instruction.ints ? "ints" : "floats"} cut`);
        list.length = random.int(list.length + 1);
      },
      () => {
        instruction.ints.push(number(1));
        said.push(`${instruction.kernel} one int more`);
      },
      () => {
        if (instruction.floats.length === 0) return;
        instruction.floats[random.int(instruction.floats.length)] = pick([0, -1, 1e300, Number.NaN, -1e-300]);
        said.push(`${instruction.kernel} floats`);
      },
      () => {
        const list = pick([instruction.inputs, instruction.outputs]);
        list.splice(random.int(list.length + 1), 1);
        said.push(`${instruction.kernel} one operand less`);
      },
      () => {
        const list = pick([instruction.inputs, instruction.outputs]);
        if (list.length > 0) list.push(structuredClone(pick(list)));
        said.push(`${instruction.kernel} one operand more`);
      },
      () => {
        if (operand === undefined) return;
        replace(`${instruction.kernel} shape`, operand.shape);
      },
      () => {
        if (operand === undefined) return;
        replace(`${instruction.kernel} strides`, operand.strides);
      },
      () => {
        // Another shape, row-major and within its memory more often than not.
        if (operand === undefined || operand.shape.length === 0) return;
        const at = random.int(operand.shape.length);
        // An earlier change may have made it negative or huge.
        const size = Math.min(Math.max(operand.shape[at] as number, 0), 2 ** 31);
        operand.shape[at] = random.int(size + 1);
        let step = 1;
        for (let axis = operand.shape.length - 1; axis >= 0; axis--) {
          operand.strides[axis] = step;
          step *= operand.shape[axis] as number;
        }
        said.push(`${instruction.kernel} axis ${at} cut to ${operand.shape[at]}`);
      },
      () => {
        if (operand === undefined) return;
        operand.shape.pop();
        operand.strides.pop();
        said.push(`${instruction.kernel} one axis less`);
      },
      () => {
        if (operand === undefined) return;
        operand.shape.unshift(1);
        operand.strides.unshift(1);
        said.push(`${instruction.kernel} one axis more`);
      },
      () => {
        if (operand === undefined) return;
        operand.dtype = random.int(5);
        said.push(`${instruction.kernel} dtype ${operand.dtype}`);
      },
      () => {
        if (operand === undefined) return;
        operand.byteOffset = number(operand.byteOffset);
        said.push(`${instruction.kernel} byteOffset ${operand.byteOffset}`);
      },
      () => {
        if (operand === undefined) return;
        operand.index = number(operand.index);
        said.push(`${instruction.kernel} index ${operand.index}`);
      },
      () => {
        instruction.workspaceBytes = number(instruction.workspaceBytes);
        instruction.workspaceOffset = number(instruction.workspaceOffset);
        said.push(`${instruction.kernel} workspace`);
      },
      () => {
        spec.arenaBytes = number(spec.arenaBytes);
        said.push(`arena ${spec.arenaBytes}`);
      },
    ];
    pick(moves)();
  }
  return { spec: spec as ProgramSpec, what: said.join(", ") };
}

function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i] as number));
  return most;
}
