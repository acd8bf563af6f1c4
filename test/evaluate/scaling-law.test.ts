import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { HostRandom } from "../../src/engine/index.ts";
import {
  fitIsoFlops,
  fitScalingLaw,
  lawLoss,
  optimalSize,
  predictLoss,
  type ScalingPoint,
} from "../../src/evaluate/index.ts";

/** The coefficients of Hoffmann et al. 2022, eq. 10. */
const truth = { E: 1.69, A: 406.4, B: 410.7, alpha: 0.34, beta: 0.28 };
const sizes = [4e7, 1e8, 2.5e8, 6e8, 1.5e9, 4e9];
const budgets = [1e19, 3e19, 1e20, 3e20];

function runs(noise: number, seed = 1): ScalingPoint[] {
  const random = new HostRandom(seed);
  return budgets.flatMap((flops) =>
    sizes.map((parameters) => {
      const tokens = flops / (6 * parameters);
      return { parameters, tokens, loss: lawLoss(truth, { parameters, tokens }) * Math.exp(noise * random.normal()) };
    }),
  );
}

const close = (actual: number, expected: number, share: number): void =>
  assert.ok(Math.abs(actual / expected - 1) < share, `${actual} is not ${expected} to ${share}`);

test("exact losses give the coefficients back", () => {
  const law = fitScalingLaw(runs(0), { bootstrap: 0 });
  close(law.E, truth.E, 1e-3);
  close(law.alpha, truth.alpha, 1e-3);
  close(law.beta, truth.beta, 1e-3);
  close(law.A, truth.A, 1e-2);
  close(law.B, truth.B, 1e-2);
  close(law.a, 0.28 / 0.62, 1e-3);
});

test("noisy losses: every true coefficient lies within its interval, and the intervals are not idle", () => {
  const law = fitScalingLaw(runs(2e-3), { bootstrap: 100 });
  for (const [name, [low, high]] of Object.entries(law.intervals)) {
    const value = truth[name as keyof typeof truth];
    assert.ok(low < value && value < high, `${name}: ${value} outside ${low} to ${high}`);
  }
  const [low, high] = law.intervals.alpha;
  assert.ok(high - low < 0.2);
  const next = { parameters: 1e10, tokens: 5e10 };
  const { loss, interval } = predictLoss(law, next);
  close(loss, lawLoss(truth, next), 5e-3);
  assert.ok(interval[0] < lawLoss(truth, next) && lawLoss(truth, next) < interval[1]);
});

test("an outlier moves the fit little: the loss is Huber's", () => {
  const points = runs(1e-3);
  const spoilt = points.map((point, i) => (i === 7 ? { ...point, loss: point.loss * 1.3 } : point));
  close(fitScalingLaw(spoilt, { bootstrap: 0 }).alpha, fitScalingLaw(points, { bootstrap: 0 }).alpha, 0.1);
});

test("the same fit as scipy's L-BFGS-B on the same noisy losses", () => {
  const file = join(packageRoot(), "test", "golden", "scaling-law.json");
  const golden = JSON.parse(readFileSync(file, "utf8")) as {
    points: ScalingPoint[];
    objective: number;
    E: number;
    alpha: number;
    beta: number;
  };
  const law = fitScalingLaw(golden.points, { bootstrap: 0 });
  close(law.E, golden.E, 1e-3);
  close(law.alpha, golden.alpha, 1e-3);
  close(law.beta, golden.beta, 1e-3);
  const huber = law.residuals.reduce(
    (sum, r) => sum + (Math.abs(r) <= 1e-3 ? (r * r) / 2 : 1e-3 * (Math.abs(r) - 5e-4)),
    0,
  );
  assert.ok(huber <= golden.objective * (1 + 1e-6), `${huber} against ${golden.objective}`);
});

test("the best size of a budget is where the closed form says", () => {
  const { parameters, tokens } = optimalSize(truth, 1e21);
  const g = ((truth.alpha * truth.A) / (truth.beta * truth.B)) ** (1 / (truth.alpha + truth.beta));
  close(parameters, g * (1e21 / 6) ** (truth.beta / (truth.alpha + truth.beta)), 1e-4);
  close(6 * parameters * tokens, 1e21, 1e-9);
});

test("isoFLOP parabolas find the best sizes and their exponent", () => {
  // Losses that are parabolas in ln N about N = 3 C^0.45.
  const best = (flops: number): number => 3 * flops ** 0.45;
  const random = new HostRandom(3);
  const curves = [1e12, 1e13, 1e14].map((flops) => ({
    flops,
    points: [0.2, 0.5, 1, 2, 5].map((share) => {
      const parameters = share * best(flops);
      const loss = 3 + 0.05 * Math.log(share) ** 2 + 1e-3 * random.normal();
      return { parameters, tokens: flops / (6 * parameters), loss };
    }),
  }));
  const { parabolas, exponents } = fitIsoFlops(curves);
  for (const { flops, best: found } of parabolas) {
    close(found?.parameters ?? 0, best(flops), 0.05);
    close(6 * (found?.parameters ?? 0) * (found?.tokens ?? 0), flops, 1e-6);
  }
  assert.ok(exponents !== undefined);
  close(exponents.a, 0.45, 0.05);
  close(exponents.a + exponents.b, 1, 1e-6);
  assert.ok(exponents.aInterval[0] < 0.45 && 0.45 < exponents.aInterval[1]);
});

test("a budget whose losses only fall has no best size", () => {
  const points = [1, 2, 4, 8].map((n) => ({ parameters: n * 1e4, tokens: 1e6 / n, loss: 3 - 0.1 * n ** 0.3 }));
  assert.equal(fitIsoFlops([{ flops: 1, points }]).exponents, undefined);
});

test("too few points are refused", () => {
  assert.throws(() => fitScalingLaw(runs(0).slice(0, 4)), /4 points do not determine five coefficients/);
  const bad = [...runs(0), { parameters: 1, tokens: 1, loss: Number.NaN }];
  assert.throws(() => fitScalingLaw(bad), /loss NaN/);
});
