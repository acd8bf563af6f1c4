import assert from "node:assert/strict";
import { test } from "node:test";
import { HostRandom } from "../../src/engine/index.ts";
import {
  compareResults,
  type ItemScore,
  pairedDifference,
  ratioEstimate,
  type TaskResult,
} from "../../src/evaluate/index.ts";

function scores(amounts: readonly number[], weights?: readonly number[], clusters?: readonly string[]): ItemScore[] {
  return amounts.map((amount, i) => ({ id: `${i}`, cluster: clusters?.[i], amount, weight: weights?.[i] ?? 1 }));
}

function near(actual: number | undefined, expected: number, where = ""): void {
  assert.ok(actual !== undefined && Math.abs(actual - expected) < 1e-12, `${where}: ${actual} and ${expected}`);
}

test("with equal weights it is the mean and the standard error of a mean", () => {
  const { value, standardError, units } = ratioEstimate(scores([1, 0, 0, 1, 1]));
  near(value, 0.6);
  near(standardError, Math.sqrt(0.3) / Math.sqrt(5)); // sample variance 6/5 / 4 = 0.3
  assert.equal(units, 5);
});

test("a ratio by hand", () => {
  // y = 2, 9, 4 over x = 1, 3, 2: r = 15/6 = 2.5; residuals -0.5, 1.5, -1; 3/2 * 3.5 / 36
  const { value, standardError } = ratioEstimate(scores([2, 9, 4], [1, 3, 2]));
  near(value, 2.5);
  near(standardError, Math.sqrt((1.5 * 3.5) / 36));
});

test("items of a cluster count as one unit", () => {
  const clustered = ratioEstimate(scores([1, 1, 0, 0, 1, 1], undefined, ["a", "a", "b", "b", "c", "c"]));
  const merged = ratioEstimate(scores([2, 0, 2], [2, 2, 2]));
  assert.deepEqual(clustered, merged);
  assert.ok((clustered.standardError ?? 0) > (ratioEstimate(scores([1, 1, 0, 0, 1, 1])).standardError ?? 0));
});

test("one unit has no standard error", () => {
  assert.equal(ratioEstimate(scores([3], [2])).standardError, undefined);
});

test("the standard error of a ratio is the spread of repeated samples", () => {
  const random = new HostRandom(1);
  const values: number[] = [];
  let errors = 0;
  for (let run = 0; run < 400; run++) {
    const weights = Array.from({ length: 60 }, () => 1 + 9 * random.uniform());
    const sample = ratioEstimate(
      scores(
        weights.map((x) => x * (1 + 0.5 * random.normal())),
        weights,
      ),
    );
    values.push(sample.value);
    errors += sample.standardError ?? 0;
  }
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const spread = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1));
  assert.ok(Math.abs(errors / 400 / spread - 1) < 0.1, `${errors / 400} and ${spread}`);
});

test("a paired difference is the mean of differences, and sharper than two separate errors", () => {
  const a = scores([1, 2, 3, 4]);
  const b = scores([0.5, 1.75, 2.25, 3.5]);
  const { value, standardError } = pairedDifference(a, b);
  near(value, 0.5);
  near(standardError, ratioEstimate(scores([0.5, 0.25, 0.75, 0.5])).standardError as number);
  assert.ok((standardError as number) < (ratioEstimate(a).standardError as number));
  assert.throws(() => pairedDifference(a, b.slice(1)), /different items.*same limit, shots and seed/);
  assert.throws(() => pairedDifference(a, [...b.slice(1), { id: "x", amount: 1, weight: 1 }]), /"x" is in one only/);
});

test("better counts standard errors in the metric's own direction", () => {
  const result = (amounts: readonly number[], better: "higher" | "lower"): TaskResult => {
    const { value, standardError } = ratioEstimate(scores(amounts));
    return {
      name: "t",
      metric: "m",
      value,
      standardError,
      count: amounts.length,
      better,
      items: scores(amounts),
      notes: [],
    };
  };
  const low = result([1, 2, 2], "lower");
  const high = result([2, 2.5, 3.5], "lower");
  assert.ok((compareResults(low, high).better ?? 0) > 2);
  assert.ok((compareResults(high, low).better ?? 0) < -2);
  assert.equal(compareResults(low, high).difference, low.value - high.value);
  assert.throws(() => compareResults(low, { ...high, metric: "n" }), /cannot compare t m with t n/);
});
