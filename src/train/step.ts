import {
  add,
  type Backend,
  concat,
  div,
  type Executable,
  foldKey,
  jit,
  maximum,
  minimum,
  mul,
  NdArray,
  type Precision,
  type Shape,
  sizeOf,
  sqrt,
  sum,
  sumSquares,
  type Tensor,
  type TensorType,
  valueAndGrad,
} from "../engine/index.ts";
import type { Optimizer, ParameterInfo } from "./optimizers/index.ts";
import type { LossFunction, Parameters, TrainBatch } from "./types.ts";

/** State arrays of the optimiser: slot name, then parameter name. */
export type Slots = Readonly<Record<string, Parameters>>;

export interface StepOptions {
  readonly loss: LossFunction;
  readonly optimizer: Optimizer;
  readonly clipNorm: number;
  readonly decay: (name: string) => boolean;
  /** Whether a parameter is a matrix inside the network; default: it has two axes. */
  readonly hidden?: ((name: string) => boolean) | undefined;
  /** What a parameter's learning rate is multiplied by; default 1. */
  readonly lrScale?: ((name: string) => number) | undefined;
  readonly accumulate: number;
  readonly seed: number;
  /** "bf16": products on bfloat16 operands; parameters, their gradients and the optimiser stay float32. Default "f32". */
  readonly precision?: Precision | undefined;
  readonly backend?: Backend | undefined;
}

export interface StepResult {
  /** Mean per target token, in nats, before the update. */
  readonly loss: number;
  readonly tokenCount: number;
  /** Global norm of the gradient of the mean loss, before clipping. */
  readonly gradNorm: number;
  /** First parameter whose gradient is not finite. */
  readonly badParameter: string | undefined;
}

/** The programs of a run and its cost, known before anything is allocated. */
export interface CompiledStep {
  /** Of a whole step, all micro-batches. */
  readonly flops: number;
  readonly peakBytes: number;
  /** Optimiser state and accumulation buffers, allocated when the run starts. */
  readonly stateBytes: number;
  /** Intermediates, in the memory that the programs of an engine share: of the program that needs most. */
  readonly arenaBytes: number;
  /** The programs themselves, for profiles. */
  readonly executables: readonly Executable[];
}

type Named = Readonly<Record<string, Tensor>>;
interface Accumulated {
  readonly grads: Named;
  readonly lossSum: Tensor;
  readonly tokenCount: Tensor;
}

/**
 * The training step as programs. Without accumulation it is one program and one call: forward, backward, norm, clipping
 * and update. With accumulation, every micro-batch but the last adds its summed gradients to donated buffers, and the
 * last one applies; sums are divided by the number of target tokens of all of them, so the result is that of one
 * large batch. Parameters and optimiser state are donated: updated in place.
 */
export class TrainStep {
  readonly #options: StepOptions;
  readonly #names: readonly string[];
  readonly #update;
  readonly #updateAccumulated;
  readonly #accumulate;
  readonly #key: NdArray;
  #accumulated: { grads: Parameters; lossSum: NdArray; tokenCount: NdArray } | undefined;
  trainable: Parameters;
  readonly frozen: Parameters;
  slots: Slots = {};

  constructor(trainable: Parameters, frozen: Parameters, options: StepOptions) {
    this.trainable = trainable;
    this.frozen = frozen;
    this.#options = options;
    this.#names = Object.keys(trainable);
    this.#key = NdArray.int32([2], [options.seed | 0, Math.floor(options.seed / 2 ** 32) | 0]);
    const how = {
      ...(options.backend === undefined ? {} : { backend: options.backend }),
      precision: options.precision ?? "f32",
    };
    const { loss } = options;

    const lossAndGrads = (trainable: Named, frozen: Named, batch: Named, scalars: Named): Accumulated => {
      const { key, micro } = scalars as Record<"key" | "micro", Tensor>;
      const { value, grads, aux } = valueAndGrad(
        (parameters: Named) => {
          const { lossSum, tokenCount } = loss(parameters, frozen, batch, foldKey(key, micro));
          return [lossSum, tokenCount] as const;
        },
        { hasAux: true },
      )(trainable);
      return { grads, lossSum: value, tokenCount: aux };
    };

    const apply = (trainable: Named, slots: Readonly<Record<string, Named>>, total: Accumulated, scalars: Named) => {
      const perToken = div(1, maximum(total.tokenCount, 1));
      const grads = this.#names.map((name) => total.grads[name] as Tensor);
      const clips = Number.isFinite(options.clipNorm);
      // Without clipping a gradient is needed only until its parameter is updated, so none waits for the others.
      const squares = clips
        ? sumSquares(grads)
        : concat(
            grads.map((grad) => sumSquares([grad])),
            { axis: 0 },
          );
      const gradNorm = mul(sqrt(sum(squares)), perToken);
      const clip = minimum(div(options.clipNorm, add(gradNorm, 1e-6)), 1);
      const gradScale = clips ? mul(perToken, clip) : perToken;
      const newTrainable: Record<string, Tensor> = {};
      const newSlots: Record<string, Record<string, Tensor>> = {};
      for (const name of this.#names) {
        const lrScale = options.lrScale?.(name) ?? 1;
        const updated = options.optimizer.update({
          parameter: this.#parameter(name),
          param: trainable[name] as Tensor,
          grad: total.grads[name] as Tensor,
          gradScale,
          slots: Object.fromEntries(
            Object.entries(slots).flatMap(([slot, arrays]) => {
              const array = arrays[name];
              return array === undefined ? [] : [[slot, array]];
            }),
          ),
          lr: lrScale === 1 ? (scalars.lr as Tensor) : mul(scalars.lr as Tensor, lrScale),
          scalars,
        });
        newTrainable[name] = updated.param;
        for (const [slot, value] of Object.entries(updated.slots)) {
          newSlots[slot] ??= {};
          newSlots[slot][name] = value;
        }
      }
      const { lossSum, tokenCount } = total;
      return { trainable: newTrainable, slots: newSlots, lossSum, tokenCount, gradNorm, squares };
    };

    this.#update = jit(
      (trainable: Named, slots: Readonly<Record<string, Named>>, frozen: Named, batch: Named, scalars: Named) =>
        apply(trainable, slots, lossAndGrads(trainable, frozen, batch, scalars), scalars),
      { donate: [0, 1], name: "train step", ...how },
    );
    this.#updateAccumulated = jit(
      (
        trainable: Named,
        slots: Readonly<Record<string, Named>>,
        frozen: Named,
        batch: Named,
        scalars: Named,
        before: Accumulated,
      ) => apply(trainable, slots, addTotals(before, lossAndGrads(trainable, frozen, batch, scalars)), scalars),
      { donate: [0, 1], name: "train step (last micro-batch)", ...how },
    );
    this.#accumulate = jit(
      (before: Accumulated, trainable: Named, frozen: Named, batch: Named, scalars: Named) =>
        addTotals(before, lossAndGrads(trainable, frozen, batch, scalars), scalars.keep as Tensor),
      { donate: [0], name: "train step (accumulate)", ...how },
    );
  }

  /** Traces and compiles for batches like this one. Throws PlinthError when the run cannot fit in memory. */
  compile(batch: TrainBatch): CompiledStep {
    const like = (array: TensorType): TensorType => ({ shape: array.shape, dtype: array.dtype });
    const named = (arrays: Readonly<Record<string, TensorType>>) =>
      Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, like(array)]));
    const trainable = named(this.trainable);
    const slots = Object.fromEntries(
      Object.entries(this.slotShapes).map(([slot, shapes]) => [
        slot,
        Object.fromEntries(
          Object.entries(shapes).map(([name, shape]): [string, TensorType] => [name, { shape, dtype: "float32" }]),
        ),
      ]),
    );
    const frozen = named(this.frozen);
    const arrays = named(batch.arrays);
    const scalars = named(this.#scalars(1, 0, 0));
    const { accumulate } = this.#options;
    const trainableBytes = Object.values(this.trainable).reduce((sum, array) => sum + array.byteLength, 0);
    const slotSizes = Object.values(this.slotShapes).flatMap((shapes) => Object.values(shapes).map(sizeOf));
    const stateBytes = slotSizes.reduce((sum, size) => sum + 4 * size, accumulate > 1 ? trainableBytes : 0);
    if (accumulate === 1) {
      const { stats, executable } = this.#update.compile(trainable, slots, frozen, arrays, scalars);
      const { flops, peakBytes, arenaBytes } = stats;
      return { flops, peakBytes, arenaBytes, stateBytes, executables: [executable] };
    }
    const scalar: TensorType = { shape: [], dtype: "float32" };
    const before = { grads: trainable, lossSum: scalar, tokenCount: scalar };
    const keep = named(this.#scalars(1, 0, 0, 0));
    const programs = [
      this.#accumulate.compile(before, trainable, frozen, arrays, keep),
      this.#updateAccumulated.compile(trainable, slots, frozen, arrays, scalars, before),
    ] as const;
    const [first, last] = [programs[0].stats, programs[1].stats];
    return {
      flops: first.flops * (accumulate - 1) + last.flops,
      peakBytes: Math.max(first.peakBytes, last.peakBytes),
      arenaBytes: Math.max(first.arenaBytes, last.arenaBytes),
      stateBytes,
      executables: programs.map(({ executable }) => executable),
    };
  }

  /** Programs compiled so far. */
  get programs(): number {
    return this.#update.programs + this.#updateAccumulated.programs + this.#accumulate.programs;
  }

  /** Shapes of the optimiser's state arrays: slot name, then parameter name. */
  get slotShapes(): Readonly<Record<string, Readonly<Record<string, Shape>>>> {
    const slots: Record<string, Record<string, Shape>> = {};
    for (const name of this.#names) {
      for (const [slot, shape] of Object.entries(this.#options.optimizer.slots(this.#parameter(name)))) {
        slots[slot] ??= {};
        slots[slot][name] = shape;
      }
    }
    return slots;
  }

  #parameter(name: string): ParameterInfo {
    const { decay, hidden } = this.#options;
    const { shape } = this.trainable[name] as NdArray;
    return { name, shape, decay: decay(name), hidden: shape.length === 2 && (hidden?.(name) ?? true) };
  }

  /** Fresh optimiser state. */
  initialiseSlots(): void {
    this.slots = Object.fromEntries(
      Object.entries(this.slotShapes).map(([slot, shapes]) => [
        slot,
        Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, NdArray.zeros("float32", shape)])),
      ]),
    );
  }

  /** One step over its micro-batches. `step` counts from 1. */
  async run(step: number, lr: number, batches: readonly TrainBatch[]): Promise<StepResult> {
    for (const [i, batch] of batches.slice(0, -1).entries()) {
      // `keep` 0 forgets the previous step's sums, so the buffers never need clearing.
      const scalars = this.#scalars(step, i, lr, i === 0 ? 0 : 1);
      const before = this.#accumulated ?? this.#zeroTotals();
      this.#accumulated = await this.#accumulate(before, this.trainable, this.frozen, batch.arrays, scalars);
    }
    const last = batches.at(-1) as TrainBatch;
    const scalars = this.#scalars(step, batches.length - 1, lr);
    const result =
      this.#accumulated === undefined
        ? await this.#update(this.trainable, this.slots, this.frozen, last.arrays, scalars)
        : await this.#updateAccumulated(
            this.trainable,
            this.slots,
            this.frozen,
            last.arrays,
            scalars,
            this.#accumulated,
          );
    this.trainable = result.trainable;
    this.slots = result.slots;
    const tokenCount = (await result.tokenCount.read())[0] as number;
    const squares = await result.squares.read();
    const bad = squares.findIndex((x) => !Number.isFinite(x));
    return {
      loss: ((await result.lossSum.read())[0] as number) / Math.max(1, tokenCount),
      tokenCount,
      gradNorm: (await result.gradNorm.read())[0] as number,
      badParameter: bad < 0 ? undefined : this.#names[bad],
    };
  }

  #scalars(step: number, micro: number, lr: number, keep?: number): Record<string, NdArray> {
    const own = this.#options.optimizer.scalars(step);
    return {
      key: this.#key,
      micro: NdArray.scalar((step - 1) * this.#options.accumulate + micro, "int32"),
      lr: NdArray.scalar(lr),
      ...Object.fromEntries(Object.entries(own).map(([name, value]) => [name, NdArray.scalar(value)])),
      ...(keep === undefined ? {} : { keep: NdArray.scalar(keep) }),
    };
  }

  #zeroTotals(): { grads: Parameters; lossSum: NdArray; tokenCount: NdArray } {
    const grads = Object.fromEntries(
      Object.entries(this.trainable).map(([name, array]) => [name, NdArray.zeros("float32", array.shape)]),
    );
    return { grads, lossSum: NdArray.scalar(0), tokenCount: NdArray.scalar(0) };
  }
}

function addTotals(before: Accumulated, now: Accumulated, keep?: Tensor): Accumulated {
  const plus = (a: Tensor, b: Tensor): Tensor => add(keep === undefined ? a : mul(a, keep), b);
  return {
    grads: Object.fromEntries(
      Object.entries(before.grads).map(([name, grad]) => [name, plus(grad, now.grads[name] as Tensor)]),
    ),
    lossSum: plus(before.lossSum, now.lossSum),
    tokenCount: plus(before.tokenCount, now.tokenCount),
  };
}
