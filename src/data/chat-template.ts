import { randomBytes } from "node:crypto";
import { Template } from "@huggingface/jinja";
import { PlinthError } from "../base/index.ts";
import { type TokenizerConfig, tokenContent } from "./tokenizer-json.ts";

export interface ChatMessage {
  /** `system`, `user`, `assistant`, `tool` or what else the template knows. */
  readonly role: string;
  readonly content: string;
  readonly [key: string]: unknown;
}

export interface ChatOptions {
  /** Ends with what begins an assistant's turn, for generation. Default false. */
  readonly addGenerationPrompt?: boolean;
  /** Which template when the tokenizer has several. Default `default`. */
  readonly template?: string;
  /** Further variables of the template, such as `tools`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

export interface RenderedChat {
  readonly text: string;
  readonly ids: Int32Array;
  /**
   * 1 for the tokens that the assistant says, the token that ends its turn included; 0 elsewhere. All 0 with
   * `addGenerationPrompt`: such a text is there to be continued, not to be learnt.
   */
  readonly lossMask: Uint8Array;
}

/** ChatML, for tokenizers that have its two tokens but no template of their own. */
export const chatMlTemplate =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

type Span = readonly [start: number, end: number];

/** What a chat template needs of a tokenizer. */
interface ChatTokenizer {
  readonly config: TokenizerConfig;
  readonly specialTokens: ReadonlyMap<string, number>;
  encodeWithOffsets(text: string): Promise<{ ids: Int32Array; offsets: readonly Span[] }>;
}

/** A chat template in Jinja, rendered as Hugging Face's apply_chat_template does. */
export class ChatTemplate {
  readonly #tokenizer: ChatTokenizer;

  constructor(tokenizer: ChatTokenizer) {
    this.#tokenizer = tokenizer;
  }

  /**
   * Renders and encodes messages. What the assistant says is found by `{% generation %}` marks where the template has
   * them; else by rendering the conversation up to each of its turns; else, for templates whose past turns change as
   * the conversation grows, by what changes when the message's content does. Throws PlinthError when the tokenizer has
   * no template, the template refuses the messages, or leaves a turn out.
   */
  async apply(messages: readonly ChatMessage[], options: ChatOptions): Promise<RenderedChat> {
    const source = this.#source(options.template ?? "default");
    const marker = randomBytes(8).toString("hex");
    const marked = markGeneration(source, marker);
    let text = this.#render(source, messages, options);
    let spans: Span[] = [];
    if (options.addGenerationPrompt !== true) {
      if (marked === undefined) spans = this.#findTurns(source, text, messages, options);
      else ({ text, spans } = readMarks(this.#render(marked, messages, options), marker));
    }
    const { ids, offsets } = await this.#tokenizer.encodeWithOffsets(text);
    return { text, ids, lossMask: this.#mask(ids, offsets, spans) };
  }

  #source(name: string): string {
    const { chat_template: configured } = this.#tokenizer.config;
    if (typeof configured === "string") return configured;
    if (Array.isArray(configured)) {
      const list = configured as { name?: unknown; template?: unknown }[];
      const found = list.find((entry) => entry.name === name)?.template;
      if (typeof found === "string") return found;
      throw new PlinthError(
        `the tokenizer has no chat template named "${name}"`,
        `choose one of ${list.map((entry) => String(entry.name)).join(", ")}`,
      );
    }
    const { specialTokens } = this.#tokenizer;
    if (specialTokens.has("<|im_start|>") && specialTokens.has("<|im_end|>")) return chatMlTemplate;
    throw new PlinthError(
      "the tokenizer has no chat template, and no <|im_start|> and <|im_end|> tokens for the default one",
      "add chat_template to its tokenizer_config.json, or use prompt/completion data",
    );
  }

  #render(source: string, messages: readonly ChatMessage[], options: ChatOptions): string {
    const { config } = this.#tokenizer;
    const tokens = ["bos_token", "eos_token", "pad_token", "unk_token"] as const;
    const special = Object.fromEntries(tokens.map((name) => [name, tokenContent(config[name]) ?? ""]));
    try {
      return new Template(source).render({
        ...special,
        ...options.variables,
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? false,
      });
    } catch (error) {
      throw new PlinthError(
        `the chat template refuses these messages: ${(error as Error).message}`,
        "check the roles and their order",
        { cause: error },
      );
    }
  }

  #findTurns(source: string, text: string, messages: readonly ChatMessage[], options: ChatOptions): Span[] {
    const spans: Span[] = [];
    for (const [i, message] of messages.entries()) {
      if (message.role !== "assistant") continue;
      const found =
        this.#turnByPrefix(source, text, messages.slice(0, i + 1), options) ??
        this.#turnByChange(source, text, { messages, index: i }, options);
      if (found === undefined) {
        throw new PlinthError(
          `the chat template leaves out message ${i + 1} (assistant)`,
          "put {% generation %} and {% endgeneration %} around the assistant's words in the template",
        );
      }
      spans.push(found);
    }
    return spans;
  }

  /** The turn as what rendering with it adds to rendering up to it; undefined when the renderings do not nest. */
  #turnByPrefix(source: string, text: string, upTo: readonly ChatMessage[], options: ChatOptions): Span | undefined {
    try {
      const render = (messages: readonly ChatMessage[], addGenerationPrompt: boolean) =>
        this.#render(source, messages, { ...options, addGenerationPrompt });
      const earlier = upTo.slice(0, -1);
      const before = render(earlier, true);
      const after = render(upTo, false);
      if (!after.startsWith(before) || !text.startsWith(after) || after.length === before.length) return undefined;
      // A template without a generation prompt: the turn's heading is the template's, so it begins where its content does.
      const heading = render(earlier, false) === before;
      const start = heading
        ? this.#turnByChange(source, text, { messages: upTo, index: earlier.length }, options)?.[0]
        : undefined;
      return [start ?? before.length, after.length];
    } catch {
      return undefined; // the template does not render a part of a conversation
    }
  }

  /** The turn as the part of the text that changes when the message's content does. */
  #turnByChange(
    source: string,
    text: string,
    { messages, index }: { readonly messages: readonly ChatMessage[]; readonly index: number },
    options: ChatOptions,
  ): Span | undefined {
    const stranger = "\uE000"; // private use: no text begins or ends with it
    const changed = messages.map((message, i) => (i === index ? { ...message, content: stranger } : message));
    const other = this.#render(source, changed, options);
    if (!other.includes(stranger)) return undefined;
    const shortest = Math.min(text.length, other.length);
    let start = 0;
    while (start < shortest && text[start] === other[start]) start++;
    let same = 0;
    while (same < shortest - start && text.at(-1 - same) === other.at(-1 - same)) same++;
    return [start, text.length - same];
  }

  #mask(ids: Int32Array, offsets: readonly Span[], spans: readonly Span[]): Uint8Array {
    const special = new Set(this.#tokenizer.specialTokens.values());
    const mask = new Uint8Array(ids.length);
    for (const [start, end] of spans) {
      let first = offsets.findIndex(([, tokenEnd]) => tokenEnd > start);
      if (first === -1) first = ids.length;
      let past = first;
      while (past < ids.length && (offsets[past] as Span)[0] < end) past++;
      const stop = ids.subarray(first, past).findLastIndex((id) => special.has(id));
      if (stop !== -1)
        past = first + stop + 1; // a line break after the stop token is the template's, not the assistant's
      else if (special.has(ids[past] as number)) past++;
      mask.fill(1, first, past);
    }
    return mask;
  }
}

/** The template with its `{% generation %}` tags replaced by printed marks; undefined when it has none. */
function markGeneration(source: string, marker: string): string | undefined {
  const tag = /(\s*)\{%(-?)\s*(end)?generation\s*(-?)%\}(\s*)/g;
  if (source.search(tag) === -1) return undefined;
  // trim_blocks and lstrip_blocks are on, as in Hugging Face's library: a tag swallows the blanks before it on its line
  // and the line break after it.
  return source.replace(
    tag,
    (_, before: string, left: string, end: string | undefined, right: string, after: string) => {
      const kept = left === "-" ? "" : before.replace(/\n[ \t]+$/, "\n");
      return `${kept}{{ "${marker}${end === undefined ? "(" : ")"}" }}${right === "-" ? "" : after.replace(/^\n/, "")}`;
    },
  );
}

function readMarks(rendered: string, marker: string): { text: string; spans: Span[] } {
  const spans: Span[] = [];
  const [first = "", ...parts] = rendered.split(marker);
  let text = first;
  let start = 0;
  for (const part of parts) {
    if (part.startsWith("(")) start = text.length;
    else spans.push([start, text.length]);
    text += part.slice(1);
  }
  return { text, spans };
}
