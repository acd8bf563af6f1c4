import { PlinthError } from "../base/index.ts";
import { concat, gather, jit, NdArray, pad, type Tensor, unflatten } from "../engine/index.ts";
import { expectGenerator, type Model } from "../models/index.ts";
import { bucketLength, prefillChunks } from "./buckets.ts";
import { jitOptions, perModel, type RunOptions } from "./per-model.ts";

type Arrays = Readonly<Record<string, NdArray>>;
type Tensors = Readonly<Record<string, Tensor>>;

/** Keys and values of a batch of texts, and where each text stands. Consumed by {@link Decoder.step}. */
export interface DecoderState {
  readonly cache: Arrays;
  /** Rows of the batch. */
  readonly rows: number;
  /** Positions the cache has room for. */
  readonly length: number;
  /** Of an encoder-decoder: what was read, and where it is text. */
  readonly source?: { readonly memory: Arrays; readonly segments: NdArray } | undefined;
}

export interface StepResult {
  readonly state: DecoderState;
  /** Logits of the next token, one array of V per row. */
  readonly logits: readonly Float32Array[];
}

/**
 * Runs a model with a key-value cache that is updated in place. Prompts go through in chunks of a few fixed lengths and
 * the position is an input of the program, so nothing is compiled per token. Every prompt is read by itself and only
 * then joins a batch; a row's result depends on that row alone.
 */
export class Decoder {
  readonly context: number;
  readonly #model: Model;
  readonly #programs: ReturnType<typeof createPrograms>;

  constructor(model: Model, run: RunOptions = {}) {
    expectGenerator(model.family, model.config);
    this.#model = model;
    this.context = model.config.contextLength;
    this.#programs = createPrograms(model, run);
  }

  /** Programs of the model compiled so far (a decoding loop adds none after its first token). */
  get programs(): number {
    return this.#programs.forward.programs;
  }

  /**
   * Reads the prompts. `room` is how many tokens each is expected to grow by: the cache starts that long and grows when
   * that was too little. Equal prompts are read once. An encoder-decoder reads them as its sources and begins a text of its
   * own. Throws PlinthError when one is empty or longer than the context.
   */
  async prefill(prompts: readonly Int32Array[], room: number): Promise<StepResult> {
    let longest = 0;
    for (const prompt of prompts) {
      if (prompt.length === 0) throw new PlinthError("a prompt without tokens", "give at least one token");
      if (prompt.length > this.context) {
        throw new PlinthError(
          `a prompt of ${prompt.length} tokens does not fit into the model's context of ${this.context}`,
          "shorten it",
        );
      }
      longest = Math.max(longest, prompt.length);
    }
    const isSource = this.#model.family.kind === "encoder-decoder";
    const length = bucketLength(Math.min((isSource ? 1 : longest) + room, this.context), this.context);
    const sourceLength = bucketLength(longest, this.context);
    const distinct = new Map<string, number>();
    const rowOf: number[] = [];
    const read: StepResult[] = [];
    for (const prompt of prompts) {
      const key = prompt.join();
      let row = distinct.get(key);
      if (row === undefined) {
        row = distinct.size;
        distinct.set(key, row);
        read.push(
          isSource ? await this.#readSource(prompt, sourceLength, length) : await this.#readPrompt(prompt, length),
        );
      }
      rowOf.push(row);
    }
    const state = await this.#join(read.map((result) => result.state));
    const logits = rowOf.map((row) => (read[row] as StepResult).logits[0] as Float32Array);
    return { state: read.length < prompts.length ? await this.select(state, rowOf) : state, logits };
  }

  /** One state of the rows of several, which have room for as much. */
  async #join(states: readonly DecoderState[]): Promise<DecoderState> {
    const [first] = states as [DecoderState, ...DecoderState[]];
    if (states.length === 1) return first;
    const cache = await this.#programs.join(states.map((state) => state.cache));
    const rows = states.reduce((sum, state) => sum + state.rows, 0);
    if (first.source === undefined) return { ...first, cache, rows };
    const source = await this.#programs.join(states.map(({ source }) => flatSource(source as Source)));
    return { ...first, cache, rows, source: sourceOf(source) };
  }

  async #readSource(prompt: Int32Array, sourceLength: number, length: number): Promise<StepResult> {
    const tokens = new Int32Array(sourceLength);
    tokens.set(prompt);
    const segments = NdArray.int32([1, sourceLength], new Int32Array(sourceLength).fill(1, 0, prompt.length));
    const memory = await this.#programs.read(
      Object.fromEntries(this.#model.params),
      NdArray.int32([1, sourceLength], tokens),
      segments,
    );
    const start = Int32Array.of(this.#model.config.decoderStartTokenId ?? 0);
    return await this.step({ ...this.#emptyState(length), source: { memory, segments } }, start, new Int32Array(1));
  }

  async #readPrompt(prompt: Int32Array, length: number): Promise<StepResult> {
    let state = this.#emptyState(length);
    let logits: readonly Float32Array[] = [];
    for (const chunk of prefillChunks(prompt.length, Math.min(length, this.context))) {
      const tokens = new Int32Array(chunk.length);
      tokens.set(prompt.subarray(chunk.start, chunk.start + chunk.count));
      ({ state, logits } = await this.#call(state, {
        tokens: NdArray.int32([1, chunk.length], tokens),
        start: NdArray.int32([1], [chunk.start]),
        lastIndex: NdArray.int32([1], [chunk.count - 1]),
      }));
    }
    return { state, logits };
  }

  /** Appends `tokens[row]` at `positions[row]` and gives the logits of what follows. The state is consumed. */
  async step(state: DecoderState, tokens: Int32Array, positions: Int32Array): Promise<StepResult> {
    const needed = positions.reduce((a, b) => Math.max(a, b), 0) + 1;
    const current = needed > state.length ? await this.#grow(state, needed) : state;
    return await this.#call(current, {
      tokens: NdArray.int32([state.rows, 1], tokens),
      start: NdArray.int32([state.rows], positions),
      lastIndex: NdArray.int32([state.rows], new Int32Array(state.rows)),
    });
  }

  /** The state with these rows only, in this order; rows may repeat. */
  async select(state: DecoderState, rows: readonly number[]): Promise<DecoderState> {
    const chosen = NdArray.int32([rows.length], rows);
    const cache = await this.#programs.select(state.cache, chosen);
    if (state.source === undefined) return { ...state, cache, rows: rows.length };
    const source = sourceOf(await this.#programs.select(flatSource(state.source), chosen));
    return { ...state, cache, rows: rows.length, source };
  }

  async #grow(state: DecoderState, needed: number): Promise<DecoderState> {
    if (needed > this.context)
      throw new Error(`decoder: position ${needed - 1} is outside the context of ${this.context}.`);
    const length = bucketLength(Math.max(needed, 2 * state.length), this.context);
    return { ...state, cache: await this.#programs.lengthen(state.cache, length - state.length), length };
  }

  #emptyState(length: number): DecoderState {
    const shapes = this.#model.family.cacheShape(this.#model.config, 1, length);
    return { cache: mapRecord(shapes, (shape) => NdArray.zeros("float32", shape)), rows: 1, length };
  }

  async #call(
    state: DecoderState,
    inputs: { tokens: NdArray; start: NdArray; lastIndex: NdArray },
  ): Promise<StepResult> {
    const source = state.source && { memory: state.source.memory, sourceSegments: state.source.segments };
    const out = await this.#programs.forward(Object.fromEntries(this.#model.params), state.cache, {
      ...inputs,
      ...source,
    });
    const values = (await out.logits.read()) as Float32Array;
    const width = values.length / state.rows;
    const logits = Array.from({ length: state.rows }, (_, i) => values.subarray(i * width, (i + 1) * width));
    return { state: { ...state, cache: out.cache }, logits };
  }
}

function createPrograms(model: Model, run: RunOptions) {
  const options = jitOptions(run);
  type Inputs = Readonly<Record<"tokens" | "start" | "lastIndex", Tensor>> & {
    readonly memory?: Tensors;
    readonly sourceSegments?: Tensor;
  };
  const forward = (params: Tensors, cache: Tensors, inputs: Inputs) => {
    const out = model.family.forward(unflatten(Object.entries(params)), { ...inputs, cache }, model.config);
    if (out.cache === undefined) throw new Error(`${model.family.modelType}: forward gave back no cache.`);
    return { logits: out.logits, cache: out.cache };
  };
  return {
    forward: jit(forward, { donate: [1], ...options, name: "generate" }),
    read: jit(
      (params: Tensors, source: Tensor, sourceSegments: Tensor) => {
        const inputs = { tokens: source, source, sourceSegments };
        const memory = model.family.readSource?.(unflatten(Object.entries(params)), inputs, model.config);
        if (memory === undefined) throw new Error(`${model.family.modelType}: an encoder-decoder without readSource.`);
        return memory;
      },
      { ...options, name: "read" },
    ),
    join: jit((caches: readonly Tensors[]) => {
      const parts = (name: string) => caches.map((cache) => cache[name] as Tensor);
      return mapRecord(caches[0] as Tensors, (_, name) => concat(parts(name), { axis: 0 }));
    }, options),
    select: jit((cache: Tensors, rows: Tensor) => mapRecord(cache, (x) => gather(x, rows)), options),
    lengthen: jit(
      (cache: Tensors, extra: number) => mapRecord(cache, (x) => pad(x, { low: [0, 0, 0, 0], high: [0, extra, 0, 0] })),
      options,
    ),
  };
}

type Source = NonNullable<DecoderState["source"]>;

/** A source as one record of arrays, which are joined and chosen from like a cache; segments have no name of a layer's. */
function flatSource({ memory, segments }: Source): Arrays {
  return { ...memory, segments };
}

function sourceOf({ segments, ...memory }: Arrays): Source {
  return { memory, segments: segments as NdArray };
}

function mapRecord<T, U>(record: Readonly<Record<string, T>>, fn: (value: T, name: string) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, fn(value, name)]));
}

/** The decoder of a model, made once so that its programs are shared between calls. */
export const decoderFor = perModel((model, run) => new Decoder(model, run));
