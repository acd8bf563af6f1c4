import type { Tensor, Tree } from "../../engine/index.ts";
import type { ForwardContext, ForwardInputs, ForwardOutputs, ModelConfig, ModelFamily } from "../family.ts";
import { type HeadClasses, type HeadConfig, type HeadKind, headOf } from "../head-config.ts";
import { DropoutStreams } from "./decoder.ts";
import { ParameterList } from "./parameter-list.ts";

/** What the config of an encoder has besides. */
export interface EncoderConfig extends ModelConfig {
  readonly head: HeadConfig;
  readonly initializerRange: number;
}

/** One call of an encoder. */
export interface EncoderCall<C extends ModelConfig> {
  readonly params: Tree<Tensor>;
  readonly inputs: ForwardInputs;
  readonly c: C;
  readonly dropout: DropoutStreams;
  readonly context: ForwardContext | undefined;
}

/** What stands on an encoder's trunk: its parameters and what it makes of x[B,T,D]. */
export interface Head<C extends ModelConfig> {
  /** The reference's class, which config.json names. */
  readonly architecture: string;
  parameters(list: ParameterList, c: C): void;
  forward(x: Tensor, call: EncoderCall<C>): ForwardOutputs;
}

/** The heads of an encoder. */
export type Heads<C extends ModelConfig> = { readonly lm: Head<C> } & Readonly<Partial<Record<HeadKind, Head<C>>>>;

/** Below the heads: parameters, and tokens[B,T] -> x[B,T,D]. */
export interface Trunk<C extends ModelConfig> {
  parameters(list: ParameterList, c: C): void;
  forward(call: EncoderCall<C>): Tensor;
}

/** The classes of an encoder's heads, for reading and writing config.json. */
export function headClasses<C extends ModelConfig>(heads: Heads<C>): HeadClasses {
  return Object.fromEntries(Object.entries(heads).map(([kind, head]) => [kind, head.architecture]));
}

/** The parts of a family that follow from a trunk and the heads that may stand on it. */
export function encoder<C extends EncoderConfig>(trunk: Trunk<C>, heads: Heads<C>) {
  const of = (c: C): Head<C> => heads[headOf(c).kind] as Head<C>;
  return {
    kind: "encoder",
    architecture: heads.lm.architecture,
    heads: headClasses(heads),
    cacheShape: () => ({}),

    parameters(c) {
      const list = new ParameterList({ std: c.initializerRange });
      trunk.parameters(list, c);
      of(c).parameters(list, c);
      return list.specs;
    },

    forward(params, inputs, c, context) {
      const call = { params, inputs, c, dropout: new DropoutStreams(context), context };
      return of(c).forward(trunk.forward(call), call);
    },
  } satisfies Partial<ModelFamily<C>>;
}
