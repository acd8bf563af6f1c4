import { createInterface } from "node:readline";
import type { ChatMessage } from "../../data/index.ts";
import { chatPrompt, type GenerateOptions, generate } from "../../generate/index.ts";
import type { Model } from "../../models/index.ts";
import type { Command, CommandIo } from "../command.ts";
import { openModel } from "../open-model.ts";
import { readModelPrecision } from "../precision-flag.ts";
import { readSampling, samplingOptions } from "../sampling-flags.ts";

const defaultMaxTokens = 256;

export const command: Command = {
  name: "chat",
  summary: "talk with a model",
  example: 'plinth chat models/assistant --system "Answer briefly."',
  positionals: [{ name: "MODEL", required: true, summary: "folder of a model, a training run or a checkpoint" }],
  options: {
    system: { type: "string", summary: "instruction that stands before the conversation" },
    ...samplingOptions,
  },
  async run(args, io) {
    const model = await openModel(args.positionals[0] as string, args.string("adapter"));
    const system = args.string("system");
    const start: ChatMessage[] = system === undefined ? [] : [{ role: "system", content: system }];
    const precision = await readModelPrecision(args, io);
    const options = { maxTokens: defaultMaxTokens, ...defined(readSampling(args)), precision };
    // a model that cannot chat should say so now, not after the first question
    await chatPrompt(model, [...start, { role: "user", content: "?" }], options);

    let messages = start;
    const lines = new Lines(io);
    io.note("/reset forgets the conversation, /exit or Ctrl-D ends it; Ctrl-C stops an answer");
    for (let line = await lines.next(); line !== undefined; line = await lines.next()) {
      const said = line.trim();
      if (said === "/exit") break;
      if (said === "/reset") {
        messages = start;
        io.note("forgotten");
      } else if (said.startsWith("/")) {
        io.note(`unknown command ${said}; there are /reset and /exit`);
      } else if (said !== "") {
        const asked = [...messages, { role: "user", content: said }];
        const content = await answer(model, asked, options, io, lines.answerSignal());
        messages = [...asked, { role: "assistant", content }];
      }
    }
    lines.close();
    io.result({ messages });
  },
};

async function answer(
  model: Model,
  messages: readonly ChatMessage[],
  options: GenerateOptions & { maxTokens: number },
  io: CommandIo,
  signal: AbortSignal,
): Promise<string> {
  const { prompt, eosIds, dropped } = await chatPrompt(model, messages, options);
  if (dropped > 0) io.note(`the conversation exceeds the model's context; its first ${dropped} messages are left out`);
  let content = "";
  for await (const event of generate(model, [prompt], { ...options, eosIds, signal })) {
    io.write(event.text);
    content += event.text;
  }
  io.write("\n");
  return content;
}

/** Lines as they are typed or piped in. Ctrl-C stops the answer that is being given; without one, the conversation. */
class Lines {
  readonly #reader;
  readonly #waiting: string[] = [];
  readonly #io: CommandIo;
  #wake: (() => void) | undefined;
  #closed = false;
  #answer: AbortController | undefined;

  constructor(io: CommandIo) {
    this.#io = io;
    const isTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true && !io.json;
    this.#reader = createInterface({
      input: process.stdin,
      ...(isTerminal ? { output: process.stdout, prompt: "> " } : {}),
      terminal: isTerminal,
    });
    this.#reader.on("line", (line) => {
      this.#waiting.push(line);
      this.#wake?.();
    });
    this.#reader.on("close", () => {
      // Ctrl-C and Ctrl-D leave the cursor behind the prompt
      if (isTerminal && !this.#closed) io.write("\n");
      this.#closed = true;
      this.#wake?.();
    });
    // on a terminal readline sees Ctrl-C, elsewhere the process gets the signal
    this.#reader.on("SIGINT", () => this.#interrupt());
    io.signal.addEventListener("abort", () => {
      this.#answer?.abort();
      this.close();
    });
  }

  /** The next line, or undefined at the end. */
  async next(): Promise<string | undefined> {
    this.#answer = undefined;
    if (this.#waiting.length === 0 && !this.#closed) this.#reader.prompt();
    while (this.#waiting.length === 0 && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#io.signal.aborted ? undefined : this.#waiting.shift();
  }

  /** Aborted by Ctrl-C until the next line is asked for. */
  answerSignal(): AbortSignal {
    this.#answer = new AbortController();
    return this.#answer.signal;
  }

  close(): void {
    this.#closed = true;
    this.#reader.close();
  }

  #interrupt(): void {
    if (this.#answer === undefined) this.#reader.close();
    else this.#answer.abort();
  }
}

function defined<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
