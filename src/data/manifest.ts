import { join } from "node:path";
import { z } from "zod";
import { PlinthError, readJson } from "../base/index.ts";

const count = z.number().int().nonnegative();
const tally = z.object({ documents: count, bytes: count });
const shard = tally.extend({ sha256: z.string().regex(/^[0-9a-f]{64}$/) });

/** `manifest.json` of a dataset folder. Bytes are UTF-8 bytes of text. */
export const manifestSchema = z.object({
  format: z.literal("plinth-dataset"),
  version: z.literal(1),
  /** Identity of the content: the same on every machine and at every time for the same documents and split. */
  hash: z.string(),
  createdAt: z.string(),
  options: z.object({
    allowLicences: z.array(z.string()),
    denyLicences: z.array(z.string()),
    heldOut: z.number(),
    split: z.enum(["document", "tail"]),
    seed: z.number(),
    minBytes: count,
  }),
  /** One entry per `--from`, in order; a document names its entry by index. */
  sources: z.array(tally.extend({ from: z.string(), kind: z.string(), retrievedAt: z.string() })),
  splits: z.object({
    train: tally.extend({ shards: z.array(shard) }),
    heldOut: tally.extend({ shards: z.array(shard) }),
  }),
  licences: z.record(z.string(), tally),
  /** Larger units such as npm packages. */
  collections: z.record(z.string(), tally.extend({ licence: z.string(), url: z.string().optional() })),
  /** What was left out: reason -> how many, with the first few names. */
  filtered: z.record(z.string(), z.object({ count, examples: z.array(z.string()) })),
});

export type Manifest = z.infer<typeof manifestSchema>;
export type Split = keyof Manifest["splits"];

/** Throws PlinthError when the folder is no dataset, or its manifest is damaged. */
export async function readManifest(dir: string): Promise<Manifest> {
  const path = join(dir, "manifest.json");
  let json: unknown;
  try {
    json = await readJson(path);
  } catch (error) {
    const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
    if (cause?.code !== "ENOENT" && cause?.code !== "ENOTDIR") throw error;
    throw new PlinthError(
      `${dir}: not a dataset (no manifest.json)`,
      "build one with plinth data build --from ... --out DIR; an interrupted build leaves no manifest",
    );
  }
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new PlinthError(
      `${path}: ${issue?.path.join(".") || "manifest"}: ${issue?.message}`,
      "build the dataset again",
    );
  }
  return parsed.data;
}
