/** Steps looked at for the rates shown while running. */
const recentSteps = 32;

/** Rates, time left and time spent of a run. Steps are timed apart from what happens between them. */
export class Throughput {
  readonly #stepsToDo: number;
  readonly #secondsBefore: number;
  readonly #created = performance.now();
  #started = this.#created;
  #recent: { tokens: number; seconds: number }[] = [];
  #steps = 0;
  #tokens = 0;
  #stepSeconds = 0;

  /** `secondsBefore`: spent by the processes that this one resumes. */
  constructor(stepsToDo: number, secondsBefore: number) {
    this.#stepsToDo = stepsToDo;
    this.#secondsBefore = secondsBefore;
  }

  /** The first step begins now. */
  start(): void {
    this.#started = performance.now();
  }

  addStep(tokens: number, seconds: number): void {
    this.#steps++;
    this.#tokens += tokens;
    this.#stepSeconds += seconds;
    this.#recent.push({ tokens, seconds });
    if (this.#recent.length > recentSteps) this.#recent.shift();
  }

  get tokensPerSecond(): number {
    return ratio(this.#sum("tokens"), this.#sum("seconds"));
  }

  get averageTokensPerSecond(): number {
    return ratio(this.#tokens, this.#stepSeconds);
  }

  flopsPerSecond(flopsPerStep: number): number {
    return ratio(flopsPerStep * this.#recent.length, this.#sum("seconds"));
  }

  get etaSeconds(): number {
    const elapsed = (performance.now() - this.#started) / 1000;
    return ratio(elapsed, this.#steps) * (this.#stepsToDo - this.#steps);
  }

  get seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#created) / 1000;
  }

  #sum(key: "tokens" | "seconds"): number {
    return this.#recent.reduce((sum, step) => sum + step[key], 0);
  }
}

function ratio(a: number, b: number): number {
  return b === 0 ? 0 : a / b;
}
