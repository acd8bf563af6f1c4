import { execFile } from "node:child_process";
import { realpath } from "node:fs/promises";
import { promisify } from "node:util";
import { PlinthError } from "../base/index.ts";
import { javascriptPrelude, pythonPrelude } from "./preludes.ts";

export type Language = "python" | "javascript" | "typescript";

export const languages: readonly Language[] = ["python", "javascript", "typescript"];

/** An interpreter as the sandbox starts it. */
export interface Interpreter {
  readonly command: readonly string[];
  /** What it needs to read beside the system's libraries. */
  readonly readable: readonly string[];
}

/** Python as `python` (a command or path; default python3), or the Node that runs this. Throws PlinthError without one. */
export async function findInterpreter(language: Language, python = "python3"): Promise<Interpreter> {
  if (language === "python") {
    let found = pythons.get(python);
    if (found === undefined) {
      found = findPython(python);
      pythons.set(python, found);
    }
    return found;
  }
  const node = await realpath(process.execPath);
  return { command: [node, "--max-old-space-size=4096", "-e", javascriptPrelude], readable: [node] };
}

const pythons = new Map<string, Promise<Interpreter>>();

async function findPython(python: string): Promise<Interpreter> {
  const question =
    "import sys; print(sys.executable); print(sys.base_prefix); print(sys.prefix); print(sys.exec_prefix)";
  try {
    const { stdout } = await promisify(execFile)(python, ["-I", "-c", question], { timeout: 20_000 });
    const [executable = "", ...prefixes] = stdout.trim().split("\n");
    const own = prefixes.filter((path, i) => !/^\/usr(\/|$)/.test(path) && prefixes.indexOf(path) === i);
    return { command: [executable, "-I", "-B", "-c", pythonPrelude], readable: own };
  } catch (error) {
    throw new PlinthError(
      `python programs cannot be run: ${python}: ${(error as Error).message.split("\n")[0]}`,
      "install Python 3, or name its interpreter",
      { cause: error },
    );
  }
}

/** What a language's programs become before they run: TypeScript loses its types. Throws Error where it cannot be read. */
export async function translate(language: Language, text: string): Promise<string> {
  if (language !== "typescript") return text;
  const { default: typescript } = await import("@swc/wasm-typescript");
  try {
    return typescript.transformSync(text, { mode: "transform", filename: "program.ts" }).code;
  } catch (error) {
    const { message, startLine } = error as { message?: string; startLine?: number };
    throw new SyntaxError(`program.ts:${startLine ?? "?"}: ${message ?? String(error)}`);
  }
}
