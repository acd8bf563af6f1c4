import {
  add,
  cast,
  div,
  expandDims,
  matmul,
  maximum,
  mul,
  notEqual,
  reshape,
  slice,
  sum,
  type Tensor,
  withScope,
} from "../../engine/index.ts";
import type { ForwardInputs, ModelConfig } from "../family.ts";
import { headOf } from "../head-config.ts";
import { type ActivationName, activations } from "./activation.ts";
import { selectLast, selectRows } from "./decoder.ts";
import type { EncoderCall, Head } from "./encoder.ts";
import { float32 } from "./float32.ts";
import { linear } from "./linear.ts";
import { inModule, moduleAt, requiredParameter } from "./module.ts";
import { layerNorm } from "./norm.ts";
import type { ParameterList } from "./parameter-list.ts";

/** Something computed of x[B,T,D] by a layer of its own; for pooling [B,D]. */
export interface HeadPart<C extends ModelConfig> {
  parameters(list: ParameterList, c: C): void;
  forward(x: Tensor, call: EncoderCall<C>): Tensor;
}

/** Rates of dropout in front of a head's layers. */
export type RateOf<C> = (c: C) => number;

/** x[B,T,D] -> [B,D]: the first token, which stands for the text. */
export function firstToken(x: Tensor): Tensor {
  const [B, , D] = x.shape as [number, number, number];
  return reshape(slice(x, { starts: [0, 0, 0], limits: [B, 1, D] }), [B, D]);
}

/** x[B,T,D] -> [B,D]: the mean over the tokens of a row that are no padding (segment 0). */
export function meanToken(x: Tensor, { segments }: Pick<ForwardInputs, "segments">): Tensor {
  const T = x.shape[1] as number;
  if (segments === undefined) return div(sum(x, { axes: [1] }), T);
  const isText = cast(notEqual(segments, 0), "float32");
  const total = sum(mul(x, expandDims(isText, 2)), { axes: [1] });
  return div(total, maximum(sum(isText, { axes: [1], keepDims: true }), 1));
}

/** First token -> `path` -> activation: [B,D]. */
export function pooler<C extends ModelConfig>(
  path: string,
  activation: ActivationName,
  dropoutBefore: RateOf<C> = () => 0,
): HeadPart<C> {
  return {
    parameters: (list, c) => list.linear(path, c.hiddenSize, c.hiddenSize, { bias: true }),
    forward: (x, { params, c, dropout }) =>
      inModule(params, path, (p) => activations[activation](linear(dropout.apply(firstToken(x), dropoutBefore(c)), p))),
  };
}

/** x[...,D] -> [...,D]: a layer, its activation and a norm, as in front of the logits of masked language modelling. */
export function denseAndNorm<C extends ModelConfig>(parts: {
  readonly dense: string;
  readonly norm: string;
  readonly activation: (c: C) => ActivationName;
  readonly eps: (c: C) => number;
}): HeadPart<C> {
  return {
    parameters(list, c) {
      list.linear(parts.dense, c.hiddenSize, c.hiddenSize, { bias: true });
      list.layerNorm(parts.norm, c.hiddenSize);
    },
    forward(x, { params, c }) {
      const y = inModule(params, parts.dense, (p) => activations[parts.activation(c)](linear(x, p)));
      return inModule(params, parts.norm, (p) => layerNorm(y, p, { eps: parts.eps(c) }));
    },
  };
}

/** Masked language modelling: a transformation of every token (or of `rows` alone), then the table of embeddings. */
export function maskedLmHead<C extends ModelConfig>(parts: {
  readonly architecture: string;
  readonly transform: HeadPart<C>;
  /** Path of the table of token embeddings. */
  readonly table: string;
  /** Path of the module whose `bias[V]` is added; it is listed after the transformation. */
  readonly bias: string;
}): Head<C> {
  const { architecture, transform, table, bias } = parts;
  return {
    architecture,
    parameters(list, c) {
      transform.parameters(list, c);
      list.bias(bias, c.vocabSize);
    },
    forward(x, call) {
      const { rows, lastIndex } = call.inputs;
      const read = rows !== undefined ? selectRows(x, rows) : lastIndex !== undefined ? selectLast(x, lastIndex) : x;
      const transformed = transform.forward(read, call);
      const weight = requiredParameter(moduleAt(call.params, table), "weight");
      const offset = float32(requiredParameter(moduleAt(call.params, bias), "bias"));
      const logits = withScope(`${bias}.decoder`, () => add(matmul(transformed, weight, { transposeB: true }), offset));
      return { logits };
    },
  };
}

/** Pooling, dropout, `path`: logits[B,labels]. */
export function sequenceHead<C extends ModelConfig>(parts: {
  readonly architecture: string;
  readonly pool: HeadPart<C>;
  readonly path: string;
  readonly dropout: RateOf<C>;
}): Head<C> {
  const { architecture, pool, path } = parts;
  return {
    architecture,
    parameters(list, c) {
      pool.parameters(list, c);
      list.linear(path, c.hiddenSize, headOf(c).labels.length, { bias: true });
    },
    forward(x, call) {
      const pooled = call.dropout.apply(pool.forward(x, call), parts.dropout(call.c));
      return { logits: inModule(call.params, path, (p) => linear(pooled, p)) };
    },
  };
}

/** Pooling, `path`: logits[B,2] of a pair of texts. */
export function pairHead<C extends ModelConfig>(architecture: string, pool: HeadPart<C>, path: string): Head<C> {
  return {
    architecture,
    parameters(list, c) {
      pool.parameters(list, c);
      list.linear(path, c.hiddenSize, 2, { bias: true });
    },
    forward: (x, call) => ({ logits: inModule(call.params, path, (p) => linear(pool.forward(x, call), p)) }),
  };
}

/** Dropout and `path` on every token: logits[B,T,labels]. */
export function tokenHead<C extends ModelConfig>(parts: {
  readonly architecture: string;
  readonly path: string;
  readonly dropout: RateOf<C>;
  /** Between the trunk and dropout; default nothing. */
  readonly transform?: HeadPart<C>;
}): Head<C> {
  const { architecture, path, transform } = parts;
  return {
    architecture,
    parameters(list, c) {
      transform?.parameters(list, c);
      list.linear(path, c.hiddenSize, headOf(c).labels.length, { bias: true });
    },
    forward(x, call) {
      const read = call.dropout.apply(transform?.forward(x, call) ?? x, parts.dropout(call.c));
      return { logits: inModule(call.params, path, (p) => linear(read, p)) };
    },
  };
}

/** Where in the row an answer begins and ends: logits[B,T,2]. */
export function spanHead<C extends ModelConfig>(parts: {
  readonly architecture: string;
  readonly path?: string;
  readonly dropout?: RateOf<C>;
  readonly transform?: HeadPart<C>;
}): Head<C> {
  const { architecture, path = "qa_outputs", dropout = () => 0, transform } = parts;
  return {
    architecture,
    parameters(list, c) {
      transform?.parameters(list, c);
      list.linear(path, c.hiddenSize, 2, { bias: true });
    },
    forward(x, call) {
      const read = call.dropout.apply(transform?.forward(x, call) ?? x, dropout(call.c));
      return { logits: inModule(call.params, path, (p) => linear(read, p)) };
    },
  };
}

/** No head: the hidden states [B,T,D], and what the pooler makes of them where there is one. */
export function noHead<C extends ModelConfig>(architecture: string, pool?: HeadPart<C>): Head<C> {
  return {
    architecture,
    parameters: (list, c) => pool?.parameters(list, c),
    forward: (x, call) => ({ logits: x, ...(pool === undefined ? {} : { pooled: pool.forward(x, call) }) }),
  };
}
