import { PlinthError } from "../base/index.ts";
import type { SamplingOptions } from "./options.ts";

/** Tokens that may come next, in order of id, with probabilities that add up to one. */
export interface Distribution {
  readonly ids: Int32Array;
  readonly probabilities: Float64Array;
}

/**
 * logits[V] -> the distribution to sample from. Order and definitions as in Hugging Face transformers 5
 * (`generation/logits_process.py`): repetition penalty over `seen`, temperature, top-k (ties with the k-th stay),
 * top-p, min-p. Temperature 0 gives the likeliest token alone (the smallest id among equals).
 * Throws PlinthError when the logits are not finite.
 */
export function nextTokenDistribution(
  logits: Float32Array,
  options: SamplingOptions,
  seen: Iterable<number> = [],
): Distribution {
  const scores = penalised(logits, options.repetitionPenalty ?? 1, seen);
  const best = argmax(scores);
  const temperature = options.temperature ?? 1;
  if (temperature === 0) return { ids: Int32Array.of(best), probabilities: Float64Array.of(1) };

  const top = scores[best] as number;
  let floor = Number.NEGATIVE_INFINITY;
  if (options.topK !== undefined && options.topK < scores.length) floor = kthLargest(scores, options.topK);
  let kept: Weighted = weigh(scores, top, { floor, temperature });
  if (options.topP !== undefined && options.topP < 1) kept = keepNucleus(kept, options.topP);
  if (options.minP !== undefined && options.minP > 0) kept = keepAtLeast(kept, options.minP);
  return normalise(kept);
}

/** The token at `u` (in [0, 1)) of the cumulative distribution in order of id. */
export function pick(distribution: Distribution, u: number): number {
  let left = u;
  let last = 0;
  for (let i = 0; i < distribution.ids.length; i++) {
    const probability = distribution.probabilities[i] as number;
    if (probability > 0) last = i;
    left -= probability;
    if (left < 0) break;
  }
  return distribution.ids[last] as number;
}

/** Log-probability of each token, in float64. */
export function logSoftmax(logits: Float32Array): Float64Array {
  const top = logits[argmax(logits)] as number;
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp((logits[i] as number) - top);
  const shift = top + Math.log(total);
  const logprobs = new Float64Array(logits.length);
  for (let i = 0; i < logits.length; i++) logprobs[i] = (logits[i] as number) - shift;
  return logprobs;
}

/** Ids of the n largest, in falling order, smaller ids first among equals. */
export function topIds(values: Float64Array | Float32Array, n: number): number[] {
  const count = Math.min(n, values.length);
  const best: number[] = [];
  for (let i = 0; i < values.length && count > 0; i++) {
    const value = values[i] as number;
    if (best.length === count && value <= (values[best[count - 1] as number] as number)) continue;
    let at = best.length;
    while (at > 0 && value > (values[best[at - 1] as number] as number)) at--;
    best.splice(at, 0, i);
    if (best.length > count) best.pop();
  }
  return best;
}

interface Weighted {
  readonly ids: Int32Array;
  /** Probabilities up to a common factor; the largest is 1. */
  readonly weights: Float64Array;
}

/** Weights of the tokens whose score is at least `floor`; `top` is the largest score. Typed arrays: vocabularies are long. */
function weigh(
  scores: Float32Array,
  top: number,
  { floor, temperature }: { floor: number; temperature: number },
): Weighted {
  const ids = new Int32Array(scores.length);
  const weights = new Float64Array(scores.length);
  let count = 0;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i] as number;
    if (score < floor) continue;
    const weight = Math.exp((score - top) / temperature);
    if (weight === 0) continue;
    ids[count] = i;
    weights[count++] = weight;
  }
  return { ids: ids.subarray(0, count), weights: weights.subarray(0, count) };
}

function keep({ ids, weights }: Weighted, isKept: (weight: number) => boolean): Weighted {
  const mask = weights.map((weight) => (isKept(weight) ? 1 : 0));
  return { ids: ids.filter((_, i) => mask[i] === 1), weights: weights.filter((_, i) => mask[i] === 1) };
}

function sum(values: Float64Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i] as number;
  return total;
}

/** Keskar et al. 2019 (CTRL), section 4.1, as transformers applies it to prompt and text alike. Copies only to change. */
function penalised(logits: Float32Array, penalty: number, seen: Iterable<number>): Float32Array {
  if (penalty === 1) return logits;
  const scores = logits.slice();
  for (const id of seen) {
    const score = scores[id];
    if (score !== undefined) scores[id] = score < 0 ? score * penalty : score / penalty;
  }
  return scores;
}

function argmax(scores: Float32Array): number {
  let best = -1;
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i] as number;
    if (score > top) {
      top = score;
      best = i;
    } else if (Number.isNaN(score)) {
      best = -1;
      break;
    }
  }
  if (best < 0 || !Number.isFinite(top)) {
    throw new PlinthError(
      "the model's logits are not finite numbers",
      "the weights are damaged or diverged in training; use an earlier checkpoint",
    );
  }
  return best;
}

/** Value of the k-th largest. Small k by insertion, since sorting a vocabulary takes longer than the filters together. */
function kthLargest(scores: Float32Array, k: number): number {
  if (k > 256) return Float32Array.from(scores).sort()[scores.length - k] as number;
  return scores[topIds(scores, k).at(-1) as number] as number;
}

/**
 * Removes the least likely while what is removed adds up to at most 1 - p; the likeliest always stays. Tokens below
 * (1 - p) / n cannot reach that sum together, so only the others are sorted.
 */
function keepNucleus(tokens: Weighted, p: number): Weighted {
  const { weights } = tokens;
  const total = sum(weights);
  const certain = ((1 - p) * total) / weights.length;
  const candidates = weights.filter((weight) => weight >= certain).sort();
  let removed = Math.max(0, total - sum(candidates));
  let first = 0;
  while (first < candidates.length - 1) {
    removed += candidates[first] as number;
    if (removed > (1 - p) * total) break;
    first++;
  }
  // equal weights at the edge: as many as the sum allows, smaller ids first
  const edge = candidates[first] as number;
  let edgeCount = candidates.subarray(first).filter((weight) => weight === edge).length;
  return keep(tokens, (weight) => weight > edge || (weight === edge && edgeCount-- > 0));
}

function keepAtLeast(tokens: Weighted, fraction: number): Weighted {
  const top = tokens.weights.reduce((a, b) => Math.max(a, b), 0);
  return keep(tokens, (weight) => weight >= fraction * top);
}

function normalise({ ids, weights }: Weighted): Distribution {
  const total = sum(weights);
  // In place: vocabularies are long, and nobody else has these weights.
  for (let i = 0; i < weights.length; i++) weights[i] = (weights[i] as number) / total;
  return { ids, probabilities: weights };
}
