/**
 * An error that a user can act on: one message that names the culprit and the fix. The command line prints the message
 * alone; anything else that is thrown is a defect of Plinth and shows its stack.
 */
export class PlinthError extends Error {
  override readonly name = "PlinthError";

  /** `new PlinthError("model.safetensors: truncated (expected 104 bytes, got 80)", "download it again")`. */
  constructor(problem: string, fix?: string, options?: ErrorOptions) {
    super(
      fix === undefined ? problem : `${problem.replace(/\.$/, "")}. Fix: ${/[.?!]$/.test(fix) ? fix : `${fix}.`}`,
      options,
    );
  }
}

/** The known name closest to `name` by edit distance, or undefined when none is near. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.ceil(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(
        Math.min(
          (row[j] as number) + 1,
          (next[j - 1] as number) + 1,
          (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1),
        ),
      );
    }
    row = next;
  }
  return row[b.length] as number;
}
