import { PlinthError } from "../../base/index.ts";
import { maskingOf } from "../../train/index.ts";
import { definePipeline } from "../pipeline.ts";
import { headResult, softmax, topK } from "../scores.ts";

export interface MaskFilling {
  readonly score: number;
  /** Id of the token, and its text. */
  readonly token: number;
  readonly tokenStr: string;
  /** The text with the token in place of the mask. */
  readonly sequence: string;
}

/** The `topK` (default 5) likeliest tokens for every mask of a text: one list per mask. */
export type FillMask = (text: string, options?: { readonly topK?: number }) => Promise<MaskFilling[][]>;

definePipeline<FillMask>({
  names: ["fill-mask"],
  head: "lm",
  create({ model, tokenizer, run }) {
    if (model.family.kind !== "encoder") {
      throw new PlinthError(`pipeline fill-mask: ${model.family.modelType} is not an encoder`, "use a BERT");
    }
    const { maskTokenId } = maskingOf(tokenizer);
    return async (text, { topK: count = 5 } = {}) => {
      const encoded = await tokenizer.encodeWithOffsets(text, { addSpecialTokens: true });
      const masks = [...encoded.ids.keys()].filter((at) => encoded.ids[at] === maskTokenId);
      if (masks.length === 0) {
        const mask = tokenizer.idToToken(maskTokenId);
        throw new PlinthError("pipeline fill-mask: the text has no mask", `write ${mask} where a word is wanted`);
      }
      const { values, shape } = await headResult(model, encoded, run);
      const V = shape[1] as number;
      return Promise.all(
        masks.map((at) => {
          const scores = softmax(values.subarray(at * V, (at + 1) * V));
          return Promise.all(
            topK(scores, count).map(async (token) => {
              const ids = encoded.ids.map((id, i) => (i === at ? token : id));
              const shown = masks.length === 1;
              return {
                score: scores[token] as number,
                token,
                tokenStr: await tokenizer.decode([token]),
                // With other masks in it the text is shown as the model reads it.
                sequence: await tokenizer.decode(ids, { skipSpecialTokens: shown }),
              };
            }),
          );
        }),
      );
    };
  },
});
