import { PlinthError } from "../../base/index.ts";
import { HostRandom } from "../../engine/index.ts";
import { type Interval, interval } from "./interval.ts";
import { minimise } from "./minimise.ts";

/** One trained model. */
export interface ScalingPoint {
  /** N: parameters. */
  readonly parameters: number;
  /** D: training tokens. */
  readonly tokens: number;
  /** Held-out, in nats per token. */
  readonly loss: number;
}

/** L(N, D) = E + A / N^alpha + B / D^beta. */
export interface LawCoefficients {
  readonly E: number;
  readonly A: number;
  readonly B: number;
  readonly alpha: number;
  readonly beta: number;
}

export interface ScalingLaw extends LawCoefficients {
  /** 95 % percentile intervals over the bootstrap. */
  readonly intervals: Readonly<Record<keyof LawCoefficients, Interval>>;
  /** The exponents of the best size and number of tokens with compute: N ~ C^a, D ~ C^b (Hoffmann et al. 2022, eq. 4). */
  readonly a: number;
  readonly b: number;
  readonly aInterval: Interval;
  /** Every refit of the bootstrap. */
  readonly samples: readonly LawCoefficients[];
  /** ln(measured / fitted) of every point. */
  readonly residuals: readonly number[];
}

export interface LawOptions {
  /** Refits on points drawn with replacement; default 200. */
  readonly bootstrap?: number | undefined;
  readonly seed?: number | undefined;
  /** Of the Huber loss of logarithms; default 1e-3, as in the paper. */
  readonly delta?: number | undefined;
}

/** a, b, e, alpha, beta: the law's variables as they are fitted, with A = exp(a) and so on. */
type Variables = ArrayLike<number>;

/**
 * Fits the parametric scaling law of Hoffmann et al. 2022 (section 3.3, appendix D.3): least Huber loss of
 * ln L against the log-sum-exp of its terms, by BFGS from a grid of starts. Intervals by bootstrap over the points.
 * Throws PlinthError with fewer than five points, or when sizes or tokens do not vary.
 */
export function fitScalingLaw(points: readonly ScalingPoint[], options: LawOptions = {}): ScalingLaw {
  const { bootstrap = 200, seed = 0, delta = 1e-3 } = options;
  checkPoints(points);
  const best = fit(points, gridOfStarts(points), delta);
  const law = coefficients(best);
  const random = new HostRandom(seed);
  const samples: LawCoefficients[] = [];
  // Each refit starts from the whole fit and from a few others: a resampled surface can have its minimum elsewhere.
  const starts = [best, ...nearby(best)];
  for (let i = 0; i < bootstrap; i++) {
    const drawn = points.map(() => points[random.int(points.length)] as ScalingPoint);
    if (varies(drawn)) samples.push(coefficients(fit(drawn, starts, delta)));
  }
  const of = (pick: (sample: LawCoefficients) => number): Interval => interval(samples.map(pick));
  const share = ({ alpha, beta }: LawCoefficients): number => beta / (alpha + beta);
  return {
    ...law,
    intervals: {
      E: of(({ E }) => E),
      A: of(({ A }) => A),
      B: of(({ B }) => B),
      alpha: of(({ alpha }) => alpha),
      beta: of(({ beta }) => beta),
    },
    a: share(law),
    b: 1 - share(law),
    aInterval: of(share),
    samples,
    residuals: points.map((point) => Math.log(point.loss / lawLoss(law, point))),
  };
}

/** The law's loss of a size and a number of tokens. */
export function lawLoss(law: LawCoefficients, { parameters, tokens }: Omit<ScalingPoint, "loss">): number {
  return law.E + law.A / parameters ** law.alpha + law.B / tokens ** law.beta;
}

export interface Prediction {
  readonly loss: number;
  /** Where a measurement should lie with 95 %: the spread of the refits, and that of the points about the fit. */
  readonly interval: Interval;
}

/** The loss of a model that has not been trained. */
export function predictLoss(law: ScalingLaw, run: Omit<ScalingPoint, "loss">): Prediction {
  const spread = law.samples.flatMap((sample) =>
    law.residuals.map((residual) => lawLoss(sample, run) * Math.exp(residual)),
  );
  return { loss: lawLoss(law, run), interval: interval(spread) };
}

/**
 * The size and tokens of the least loss for a budget, where `flopsPerToken` is of a size (6 N without attention).
 * Golden-section search over ln N.
 */
export function optimalSize(
  law: LawCoefficients,
  flops: number,
  flopsPerToken: (parameters: number) => number = (parameters) => 6 * parameters,
): { readonly parameters: number; readonly tokens: number; readonly loss: number } {
  const at = (logN: number) => {
    const parameters = Math.exp(logN);
    const tokens = flops / flopsPerToken(parameters);
    return { parameters, tokens, loss: lawLoss(law, { parameters, tokens }) };
  };
  const golden = (Math.sqrt(5) - 1) / 2;
  let [low, high] = [Math.log(10), Math.log(1e13)];
  while (high - low > 1e-6) {
    const [first, second] = [high - golden * (high - low), low + golden * (high - low)];
    if (at(first).loss < at(second).loss) high = second;
    else low = first;
  }
  return at((low + high) / 2);
}

function fit(points: readonly ScalingPoint[], starts: readonly Variables[], delta: number): Float64Array {
  const logs = points.map(({ parameters, tokens, loss }) => [Math.log(parameters), Math.log(tokens), Math.log(loss)]);
  const objective = huberObjective(logs as [number, number, number][], delta);
  let best: { x: Float64Array; value: number } | undefined;
  for (const start of starts) {
    const found = minimise(objective, start);
    if (found.x.every(Number.isFinite) && (best === undefined || found.value < best.value)) best = found;
  }
  if (best === undefined)
    throw new PlinthError("the scaling law fits nowhere", "check that losses are finite and positive");
  return best.x;
}

/** Mean Huber loss of ln L over delta squared, which leaves the minimum and gives the line search numbers near one. */
function huberObjective(logs: readonly [logN: number, logD: number, logLoss: number][], delta: number) {
  return (x: Float64Array) => {
    const [a, b, e, alpha, beta] = x as unknown as [number, number, number, number, number];
    let value = 0;
    const gradient = new Float64Array(5);
    for (const [logN, logD, logLoss] of logs) {
      const terms = [a - alpha * logN, b - beta * logD, e] as const;
      const top = Math.max(...terms);
      const [p, q, r] = terms.map((term) => Math.exp(term - top)) as [number, number, number];
      const sum = p + q + r;
      const error = (top + Math.log(sum) - logLoss) / delta;
      const size = Math.abs(error);
      value += size <= 1 ? error ** 2 / 2 : size - 0.5;
      const pull = (size <= 1 ? error : Math.sign(error)) / delta / sum / logs.length;
      gradient[0] = (gradient[0] as number) + pull * p;
      gradient[1] = (gradient[1] as number) + pull * q;
      gradient[2] = (gradient[2] as number) + pull * r;
      gradient[3] = (gradient[3] as number) - pull * p * logN;
      gradient[4] = (gradient[4] as number) - pull * q * logD;
    }
    return { value: value / logs.length, gradient };
  };
}

/** Exponents and shares of the loss on a grid: each term's size is set so that it has its share at the middle of the points. */
function gridOfStarts(points: readonly ScalingPoint[]): Variables[] {
  const middle = (pick: (point: ScalingPoint) => number): number =>
    points.reduce((sum, point) => sum + Math.log(pick(point)), 0) / points.length;
  const [logN, logD, logLoss] = [middle((p) => p.parameters), middle((p) => p.tokens), middle((p) => p.loss)];
  const starts: Variables[] = [];
  for (const alpha of [0.1, 0.3, 0.6, 1]) {
    for (const beta of [0.1, 0.3, 0.6, 1]) {
      for (const floor of [0.2, 0.5, 0.8]) {
        for (const share of [0.2, 0.5, 0.8]) {
          const rest = logLoss + Math.log(1 - floor);
          const [a, b] = [rest + Math.log(share) + alpha * logN, rest + Math.log(1 - share) + beta * logD];
          starts.push([a, b, logLoss + Math.log(floor), alpha, beta]);
        }
      }
    }
  }
  return starts;
}

function nearby(x: Variables): Variables[] {
  const [a, b, e, alpha, beta] = x as unknown as [number, number, number, number, number];
  return [
    [a * 1.3, b, e, alpha * 1.3, beta],
    [a, b * 1.3, e, alpha, beta * 1.3],
    [a * 0.7, b * 0.7, e - 0.2, alpha * 0.7, beta * 0.7],
  ];
}

function coefficients(x: Variables): LawCoefficients {
  const [a, b, e, alpha, beta] = x as unknown as [number, number, number, number, number];
  return { E: Math.exp(e), A: Math.exp(a), B: Math.exp(b), alpha, beta };
}

function varies(points: readonly ScalingPoint[]): boolean {
  const kinds = (pick: (point: ScalingPoint) => number): number => new Set(points.map(pick)).size;
  return kinds((p) => p.parameters) > 1 && kinds((p) => p.tokens) > 1 && new Set(points).size >= 5;
}

function checkPoints(points: readonly ScalingPoint[]): void {
  const bad = points.find(({ parameters, tokens, loss }) => !(parameters > 0 && tokens > 0 && loss > 0 && loss < 1e9));
  if (bad !== undefined) {
    throw new PlinthError(
      `scaling law: a point has ${bad.parameters} parameters, ${bad.tokens} tokens and loss ${bad.loss}`,
      "leave out runs that failed",
    );
  }
  if (!varies(points)) {
    throw new PlinthError(
      `scaling law: ${points.length} points do not determine five coefficients`,
      "train at least five models of several sizes on several numbers of tokens",
    );
  }
}
