/** A function's value and its gradient. */
export type Objective = (x: Float64Array) => { readonly value: number; readonly gradient: Float64Array };

export interface Minimum {
  readonly x: Float64Array;
  readonly value: number;
}

/**
 * BFGS with a backtracking line search (Nocedal & Wright 2006, algorithms 6.1 and 3.1), for a handful of variables.
 * Ends where the gradient or the progress vanishes; a start from which the value is not finite stays as it is.
 */
export function minimise(objective: Objective, start: ArrayLike<number>, maxIterations = 400): Minimum {
  const n = start.length;
  let x: Float64Array = Float64Array.from(start);
  let { value, gradient }: { value: number; gradient: Float64Array } = objective(x);
  let inverse = identity(n);
  for (let iteration = 0; iteration < maxIterations && Number.isFinite(value); iteration++) {
    if (norm(gradient) < 1e-10) break;
    let direction = times(inverse, gradient, -1);
    let slope = dot(gradient, direction);
    if (!(slope < 0)) {
      inverse = identity(n);
      direction = gradient.map((g) => -g);
      slope = -dot(gradient, gradient);
    }
    // A first step along the bare gradient may be far too long.
    let length = iteration === 0 ? Math.min(1, 1 / norm(gradient)) : 1;
    let next = objective(moved(x, direction, length));
    while (!(next.value <= value + 1e-4 * length * slope) && length > 1e-14) {
      length /= 2;
      next = objective(moved(x, direction, length));
    }
    if (!(next.value < value)) break;
    const step = direction.map((d) => d * length);
    const change = next.gradient.map((g, i) => g - (gradient[i] as number));
    const gained = value - next.value;
    x = moved(x, direction, length);
    value = next.value;
    gradient = next.gradient;
    updateInverse(inverse, step, change);
    if (gained < 1e-15 * Math.max(1e-6, Math.abs(value)) && iteration > 5) break;
  }
  return { x, value };
}

/** H <- (I - r s yT) H (I - r y sT) + r s sT with r = 1 / (yT s); left as it is where the curvature is not positive. */
function updateInverse(h: Float64Array[], s: Float64Array, y: Float64Array): void {
  const curvature = dot(s, y);
  if (!(curvature > 1e-14 * norm(s) * norm(y))) return;
  const hy = times(h, y, 1);
  const scale = (1 + dot(y, hy) / curvature) / curvature;
  for (const [i, row] of h.entries()) {
    for (let j = 0; j < row.length; j++) {
      const [si, sj, hi, hj] = [s[i], s[j], hy[i], hy[j]] as [number, number, number, number];
      row[j] = (row[j] as number) + scale * si * sj - (hi * sj + si * hj) / curvature;
    }
  }
}

function identity(n: number): Float64Array[] {
  return Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));
}

function moved(x: Float64Array, direction: Float64Array, length: number): Float64Array {
  return x.map((value, i) => value + length * (direction[i] as number));
}

function times(matrix: readonly Float64Array[], x: Float64Array, sign: number): Float64Array {
  return Float64Array.from(matrix, (row) => sign * dot(row, x));
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (const [i, value] of a.entries()) sum += value * (b[i] as number);
  return sum;
}

function norm(a: Float64Array): number {
  return Math.sqrt(dot(a, a));
}
