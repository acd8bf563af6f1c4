import { PlinthError } from "../../base/index.ts";
import type { Dataset, Tokenizer } from "../../data/index.ts";
import type { CompletionTask } from "../../evaluate/index.ts";
import type { Example, QuickstartTask } from "./tasks.ts";

const maxTaskDocuments = 2000;
const maxTestDocuments = 120;

export interface TaskExamples {
  readonly train: readonly Example[];
  readonly test: CompletionTask["items"];
}

/** Examples from the training documents to learn from, and from held-out documents to be tested on; only what fits the context. */
export async function makeExamples(
  task: QuickstartTask,
  dataset: Dataset,
  room: { readonly tokenizer: Tokenizer; readonly context: number },
): Promise<TaskExamples> {
  const train: Example[] = [];
  let documents = 0;
  for await (const { text } of dataset.documents("train")) {
    if (documents >= maxTaskDocuments) break;
    const made = await fitting(task.examples(text), room);
    if (made.length > 0) documents++;
    train.push(...made);
  }
  const test: CompletionTask["items"][number][] = [];
  documents = 0;
  for await (const { text, id } of dataset.documents("heldOut")) {
    if (documents >= maxTestDocuments) break;
    const made = await fitting(task.examples(text), room);
    if (made.length > 0) documents++;
    test.push(...made.map((example, i) => ({ ...example, id: `${id}-${i}`, cluster: id })));
  }
  if (train.length === 0 || documents < 2) {
    throw new PlinthError(
      `the task "${task.name}" found ${train.length} lines to learn from and ${documents} held-out documents`,
      "name a folder with more text: at least a few dozen files with lines of 24 characters or more",
    );
  }
  return { train, test };
}

async function fitting(
  examples: readonly Example[],
  room: { readonly tokenizer: Tokenizer; readonly context: number },
) {
  const encoded = await room.tokenizer.encodeBatch(examples.map(({ prompt, completion }) => prompt + completion));
  // two tokens more: the beginning and the end of a text
  return examples.filter((_, i) => (encoded[i] as Int32Array).length + 2 <= room.context);
}
