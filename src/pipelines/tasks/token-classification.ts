import { headOf } from "../../models/index.ts";
import { definePipeline } from "../pipeline.ts";
import { headResult, softmax, topK } from "../scores.ts";

/** A token, or with `aggregation: "simple"` neighbouring tokens of one kind, and what it is. */
export interface Entity {
  readonly entity: string;
  readonly score: number;
  /** Place of its first token in what the model reads. */
  readonly index: number;
  readonly word: string;
  /** Span of the text, in UTF-16 units. */
  readonly start: number;
  readonly end: number;
}

export interface TokenClassificationOptions {
  /** "none" (default): one entry per token. "simple": B- and I- of one kind are joined, the score is the mean. */
  readonly aggregation?: "none" | "simple";
  /** Labels that are left out; default ["O"]. */
  readonly ignoreLabels?: readonly string[];
}

/** The tokens of a text that are something: names, places, parts of speech. */
export type TokenClassification = (text: string, options?: TokenClassificationOptions) => Promise<Entity[]>;

definePipeline<TokenClassification>({
  names: ["token-classification", "ner"],
  head: "token-classification",
  create({ model, tokenizer, run }) {
    const { labels } = headOf(model.config);
    return async (text, { aggregation = "none", ignoreLabels = ["O"] } = {}) => {
      const encoded = await tokenizer.encodeWithOffsets(text, { addSpecialTokens: true });
      const { values } = await headResult(model, encoded, run);
      const N = labels.length;
      const tokens: Entity[] = [];
      for (const [index, sequence] of encoded.sequences.entries()) {
        if (sequence === undefined) continue;
        const scores = softmax(values.subarray(index * N, (index + 1) * N));
        const best = topK(scores, 1)[0] as number;
        const [start, end] = encoded.offsets[index] as readonly [number, number];
        tokens.push({
          entity: labels[best] as string,
          score: scores[best] as number,
          index,
          word: tokenizer.idToToken(encoded.ids[index] as number) ?? "",
          start,
          end,
        });
      }
      const entities = aggregation === "none" ? tokens : joined(tokens, text);
      return entities.filter(({ entity }) => !ignoreLabels.includes(entity));
    };
  },
});

/** Neighbours of one kind as one entity; B- begins another. */
function joined(tokens: readonly Entity[], text: string): Entity[] {
  const groups: Entity[][] = [];
  for (const token of tokens) {
    const last = groups.at(-1);
    const isNext = last !== undefined && !token.entity.startsWith("B-") && kindOf(last[0] as Entity) === kindOf(token);
    if (isNext) last.push(token);
    else groups.push([token]);
  }
  return groups.map((group) => {
    const [first, last] = [group[0], group.at(-1)] as [Entity, Entity];
    const score = group.reduce((sum, token) => sum + token.score, 0) / group.length;
    return { ...first, entity: kindOf(first), score, word: text.slice(first.start, last.end), end: last.end };
  });
}

function kindOf({ entity }: Entity): string {
  return entity.replace(/^[BI]-/, "");
}
