import type { Dataset } from "./dataset.ts";
import type { Split } from "./manifest.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface Compression {
  readonly bytes: number;
  readonly tokens: number;
  readonly bytesPerToken: number;
}

/** UTF-8 bytes per token over the first documents of the datasets' split, up to `maxBytes` (default 8 MiB) of text. */
export async function compression(
  tokenizer: Tokenizer,
  datasets: readonly Dataset[],
  options: { readonly split: Split; readonly maxBytes?: number; readonly signal?: AbortSignal },
): Promise<Compression> {
  const { split, maxBytes = 8 * 2 ** 20, signal } = options;
  let bytes = 0;
  let tokens = 0;
  for (const dataset of datasets) {
    for await (const text of dataset.texts(split)) {
      signal?.throwIfAborted();
      if (bytes >= maxBytes) break;
      bytes += Buffer.byteLength(text);
      tokens += (await tokenizer.encode(text, { literal: true })).length;
    }
  }
  return { bytes, tokens, bytesPerToken: tokens === 0 ? 0 : bytes / tokens };
}
