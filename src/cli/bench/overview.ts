import {
  jit,
  type MachineLimits,
  matmul,
  NdArray,
  operandsOfPrecision,
  type Precision,
  precisions,
  type Tensor,
} from "../../engine/index.ts";
import { castParams } from "../../models/index.ts";
import type { CommandIo } from "../command.ts";
import type { Subject } from "./model.ts";
import { decodeProbe, type Probe, timeRuns, trainProbe } from "./probes.ts";

/** One figure of this machine against what limits it. */
export interface OverviewRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the limit is of, in the limit's unit: GFLOP/s or GB/s. */
  readonly limited: { readonly value: number; readonly limit: number; readonly unit: string };
}

/** Products, a training step and decoding, measured one after the other: about `secondsEach` each. */
export async function measureOverview(
  subject: Subject,
  { limits, io, secondsEach }: { limits: MachineLimits; io: CommandIo; secondsEach: number },
): Promise<OverviewRow[]> {
  const wanted = subject.precision === undefined ? precisions : [subject.precision];
  // Limits are the best of many tries, so figures against them are as well.
  const best = async (probe: Probe): Promise<number> => {
    await probe.run();
    return Math.min(...(await timeRuns(probe, { rounds: 1000, budgetSeconds: secondsEach, signal: io.signal })));
  };
  const peak = { f32: limits.gflops, bf16: limits.bfloat16Gflops };
  const rows: OverviewRow[] = [];
  for (const precision of wanted) {
    const size = 1024;
    io.progress(`product of ${size} x ${size} matrices, ${operandsOfPrecision[precision]}`);
    const seconds = await best(productProbe(size, precision));
    const value = (2 * size ** 3) / seconds / 1e9;
    rows.push({
      name: `product ${size}x${size} · ${size}x${size}, ${operandsOfPrecision[precision]}`,
      value,
      unit: "GFLOP/s",
      limited: { value, limit: peak[precision], unit: "GFLOP/s" },
    });
  }
  for (const precision of wanted) {
    io.progress(`training step, ${operandsOfPrecision[precision]}: ${subject.text}`);
    const probe = trainProbe(await subject.open(), { ...subject, precision });
    const seconds = await best(probe);
    rows.push({
      name: `training step, ${operandsOfPrecision[precision]}`,
      value: probe.tokens / seconds,
      unit: "tokens/s",
      limited: { value: probe.flops / seconds / 1e9, limit: peak[precision], unit: "GFLOP/s" },
    });
  }
  for (const precision of wanted) {
    if (subject.isEncoder) break;
    io.progress(`decoding, ${operandsOfPrecision[precision]} weights: ${subject.text}`);
    const model = await subject.open();
    const weights = precision === "bf16" ? { ...model, params: castParams(model.params, "bfloat16") } : model;
    const seconds = await best(decodeProbe(weights, { batchSize: 1, context: subject.context }));
    const bytes = [...weights.params.values()].reduce((sum, array) => sum + array.byteLength, 0);
    rows.push({
      name: `decoding one text, ${operandsOfPrecision[precision]} weights`,
      value: 1 / seconds,
      unit: "tokens/s",
      limited: { value: bytes / seconds / 1e9, limit: limits.gigabytesPerSecond, unit: "GB/s" },
    });
  }
  return rows;
}

function productProbe(size: number, precision: Precision): Probe {
  const random = () => {
    const data = new Float32Array(size * size);
    for (let i = 0; i < data.length; i++) data[i] = (i % 17) / 8 - 1;
    return NdArray.float32([size, size], data);
  };
  const operands = operandsOfPrecision[precision];
  const product = jit((a: Tensor, b: Tensor) => matmul(a, b, { operands }), { name: "product" });
  const [a, b] = [random(), random()];
  const { executable, stats } = product.compile(a, b);
  const { flops, peakBytes } = stats;
  return { run: () => product(a, b), executables: [executable], tokens: 0, flops, peakBytes, compileSeconds: 0 };
}
