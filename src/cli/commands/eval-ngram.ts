import { openDataset, Tokenizer, tokenizeDataset } from "../../data/index.ts";
import { evaluateNgram, loadTasks, NgramModel } from "../../evaluate/index.ts";
import type { Command } from "../command.ts";
import { byGroupOption, resultRows, resultTable } from "../eval-table.ts";

export const command: Command = {
  name: "eval ngram",
  summary: "count an n-gram model on a dataset and measure it on tasks: the baseline of language models",
  example: "plinth eval ngram --data data/books --tokenizer runs/small --tasks blimp=BLiMP.zip --by-group",
  options: {
    data: {
      type: "string",
      required: true,
      summary: "folder written by plinth data build; its training part is counted",
    },
    tokenizer: {
      type: "string",
      required: true,
      summary: "tokenizer or model folder: that of the model to compare with",
    },
    order: { type: "integer", default: 5, summary: "tokens of the longest n-gram" },
    tasks: { type: "string", required: true, summary: "as in plinth eval; tasks of texts and of choices" },
    limit: { type: "integer", summary: "items per task at most, evenly spaced" },
    ...byGroupOption,
  },
  async run(args, io) {
    const tasks = await loadTasks(args.required("tasks"));
    const dataset = await openDataset(args.required("data"));
    const tokenizer = await Tokenizer.load(args.required("tokenizer"));
    const { train } = await tokenizeDataset(dataset, tokenizer, { signal: io.signal });
    const documents = async function* () {
      for (let i = 0; i < train.count; i++) {
        if (i % 1000 === 0) io.progress(`counting: ${i} of ${train.count} documents`);
        const ids = await train.document(i);
        yield ids.at(-1) === tokenizer.eosId ? ids.subarray(0, -1) : ids;
      }
    };
    const model = await NgramModel.train(documents(), {
      order: args.number("order") ?? 5,
      vocabSize: tokenizer.vocabSize,
      signal: io.signal,
    });
    io.note(`${train.tokenCount} tokens counted, ${model.size} distinct ${model.order}-grams`);
    const results = await evaluateNgram(model, tokenizer, tasks, { limit: args.number("limit"), signal: io.signal });
    const rows = resultRows(results, args.boolean("by-group"));
    io.print(resultTable(rows));
    io.result({ order: model.order, ngrams: model.size, tokens: train.tokenCount, tasks: rows });
  },
};
