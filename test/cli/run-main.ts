import { main } from "../../src/cli/main.ts";

/** Runs `plinth` in this process: its exit code and what it printed. */
export async function plinth(...argv: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const code = await main(argv, {
    out: { write: (text: string) => void (out += text) },
    err: { write: (text: string) => void (err += text) },
  });
  return { code, out, err };
}
