import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";

const root = packageRoot();
const readme = readFileSync(join(root, "README.md"), "utf8");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> };

function blocks(language: string): string[] {
  return [...readme.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
    .filter((m) => m[1] === language)
    .map((m) => m[2] as string);
}

const commands = blocks("sh").flatMap((block) => block.split("\n").map((line) => line.replace(/#.*/, "").trim()));
const main = join(import.meta.dirname, "..", "..", "src", "cli", "main.js");

describe("README", () => {
  const sources = join(root, "dist-test", "readme");
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "plinth-readme-"));
    cpSync(join(root, "docs"), join(folder, "docs"), { recursive: true });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("the two commands at the top are scripts of package.json", () => {
    const [quickstart, tests] = commands;
    assert.equal(quickstart, "npm install && npm run quickstart");
    assert.equal(tests, "npm install && npm test");
    assert.ok(manifest.scripts["quickstart"] !== undefined && manifest.scripts["test"] !== undefined);
  });

  test("every command works as written, one after the other", async () => {
    const lines = commands.filter((line) => line.startsWith("npx plinth"));
    assert.ok(lines.length >= 8);
    for (const line of lines) {
      const script = `npx() { shift; '${process.execPath}' '${main}' "$@"; }\n${line}`;
      const { code, output } = await run("bash", ["-c", script], folder);
      assert.equal(code, 0, `${line}\n${output}`);
    }
  });

  test("every TypeScript example type-checks as a user would have it, and runs", async () => {
    rmSync(sources, { recursive: true, force: true });
    mkdirSync(sources, { recursive: true });
    const examples = blocks("ts");
    assert.ok(examples.length >= 2);
    for (const [i, code] of examples.entries()) {
      assert.match(code, /from "plinth"/);
      writeFileSync(join(sources, `example${i}.ts`), code.replaceAll('from "plinth"', 'from "../../src/index.ts"'));
    }
    const config = {
      extends: "../../tsconfig.json",
      compilerOptions: { rootDir: "../..", outDir: "out", declaration: false, declarationMap: false },
      include: ["*.ts", "../../src"],
    };
    writeFileSync(join(sources, "tsconfig.json"), JSON.stringify(config));
    const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
    const compiled = spawnSync(process.execPath, [compiler, "-p", sources], { encoding: "utf8" });
    assert.equal(compiled.status, 0, compiled.stdout);
    for (const i of examples.keys()) {
      const program = join(sources, "out", "dist-test", "readme", `example${i}.js`);
      const { code, output } = await run(process.execPath, [program], folder);
      assert.equal(code, 0, output);
      assert.ok(output.trim() !== "", "the example prints something");
    }
  });

  test("every link to a file of the repository leads somewhere", () => {
    for (const page of ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]) {
      const text = readFileSync(join(root, page), "utf8");
      for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)\)/g)) {
        assert.ok(existsSync(join(root, target as string)), `${page} links to ${target}, which does not exist`);
      }
    }
  });
});

function run(command: string, args: readonly string[], cwd: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}
