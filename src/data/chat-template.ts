import { randomBytes } from "node:crypto";
import { Template } from "@huggingface/jinja";
import { PlinthError } from "../base/index.ts";
import { type Tokenizer, tokenContent } from "./tokenizer.ts";

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
  /** 1 for the tokens that the assistant says, the token that ends its turn included; 0 elsewhere. */
  readonly lossMask: Uint8Array;
}

/** ChatML, for tokenizers that have its two tokens but no template of their own. */
export const chatMlTemplate =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

type Span = readonly [start: number, end: number];

/** A chat template in Jinja, rendered as Hugging Face's apply_chat_template does. */
export class ChatTemplate {
  readonly #tokenizer: Tokenizer;

  private constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  static of(tokenizer: Tokenizer): ChatTemplate {
    return new ChatTemplate(tokenizer);
  }

  /**
   * Renders and encodes messages. What the assistant says is found by `{% generation %}` marks where the template has
   * them; else by rendering the conversation up to each of its turns; else, for templates whose past turns change as
   * the conversation grows, by looking for the message's content. Throws PlinthError when the tokenizer has no template,
   * the template refuses the messages, or a turn cannot be found.
   */
  async apply(messages: readonly ChatMessage[], options: ChatOptions): Promise<RenderedChat> {
    const source = this.#source(options.template ?? "default");
    const marker = randomBytes(8).toString("hex");
    const marked = markGeneration(source, marker);
    let text: string;
    let spans: Span[];
    if (marked !== undefined) {
      ({ text, spans } = readMarks(this.#render(marked, messages, options), marker));
    } else {
      text = this.#render(source, messages, options);
      spans = this.#findTurns(source, text, messages, options);
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
    let cursor = 0;
    for (const [i, message] of messages.entries()) {
      const found =
        message.role === "assistant"
          ? (this.#turnByPrefix(source, text, messages.slice(0, i + 1), options) ?? turnByContent(text, message, cursor))
          : turnByContent(text, message, cursor);
      if (found === undefined) {
        if (message.role !== "assistant") continue; // a template may rewrite what others say
        throw new PlinthError(
          `message ${i + 1} (assistant) cannot be found in what the chat template makes of it`,
          "put {% generation %} and {% endgeneration %} around the assistant's words in the template",
        );
      }
      if (message.role === "assistant") spans.push(found);
      cursor = found[1];
    }
    return spans;
  }

  /** The turn as what rendering with it adds to rendering up to it; undefined when the renderings do not nest. */
  #turnByPrefix(source: string, text: string, upTo: readonly ChatMessage[], options: ChatOptions): Span | undefined {
    try {
      const before = this.#render(source, upTo.slice(0, -1), { ...options, addGenerationPrompt: true });
      const after = this.#render(source, upTo, { ...options, addGenerationPrompt: false });
      if (after.startsWith(before) && text.startsWith(after)) return [before.length, after.length];
    } catch {
      // the template does not render a part of a conversation
    }
    return undefined;
  }

  #mask(ids: Int32Array, offsets: readonly Span[], spans: readonly Span[]): Uint8Array {
    const special = new Set(this.#tokenizer.specialTokens.values());
    const mask = new Uint8Array(ids.length);
    for (const [start, end] of spans) {
      const inside = [...ids.keys()].filter((i) => (offsets[i] as Span)[0] < end && (offsets[i] as Span)[1] > start);
      const first = inside[0];
      if (first === undefined) continue;
      let last = inside.at(-1) as number;
      const stop = inside.findLast((i) => special.has(ids[i] as number));
      if (stop !== undefined) last = stop; // a template's line break after the stop token is not said by the assistant
      else if (special.has(ids[last + 1] as number)) last++;
      mask.fill(1, first, last + 1);
    }
    return mask;
  }
}

/** The message's content, searched from the cursor; templates may trim it. */
function turnByContent(text: string, message: ChatMessage, cursor: number): Span | undefined {
  if (typeof message.content !== "string") return undefined;
  const content = [message.content, message.content.trim()].find((candidate) => text.includes(candidate, cursor));
  if (content === undefined) return undefined;
  const start = text.indexOf(content, cursor);
  return [start, start + content.length];
}

/** The template with its `{% generation %}` tags replaced by printed marks; undefined when it has none. */
function markGeneration(source: string, marker: string): string | undefined {
  const tag = /(\s*)\{%(-?)\s*(end)?generation\s*(-?)%\}(\s*)/g;
  if (source.search(tag) === -1) return undefined;
  // trim_blocks and lstrip_blocks are on, as in Hugging Face's library: a tag swallows the blanks before it on its line
  // and the line break after it.
  return source.replace(tag, (_, before: string, left: string, end: string | undefined, right: string, after: string) => {
    const kept = left === "-" ? "" : before.replace(/\n[ \t]+$/, "\n");
    return `${kept}{{ "${marker}${end === undefined ? "(" : ")"}" }}${right === "-" ? "" : after.replace(/^\n/, "")}`;
  });
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
