// Builds wasm/plinth.wasm, the engine for places without a native binary: npm run build:wasm [-- --check | --clean].
//
// Needs clang, lld and the libraries of WebAssembly (Debian: clang lld libc++-dev-wasm32 libc++abi-dev-wasm32
// libclang-rt-dev-wasm32 wasi-libc; CLANG=clang++-14 names another compiler). The file is committed with the hash of its
// sources in it; --check builds nothing and fails when the sources have changed since.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { kernelSources } from "./native-sources.mjs";

const root = join(import.meta.dirname, "..");
const target = join(root, "wasm", "plinth.wasm");

/** Everything the module is compiled from: shared by the build and by the test that compares hashes. */
const runtime = ["kernel.cc", "memory.cc", "program.cc", "program_image.cc"];
const flags = [
  "--target=wasm32-wasi",
  "-mexec-model=reactor",
  "-std=c++20",
  "-O2",
  "-msimd128",
  "-mbulk-memory",
  "-mnontrapping-fptoint",
  "-fexceptions",
  "-fvisibility=hidden",
  "-ffp-contract=off",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-Wall",
  "-Wextra",
  "-Inative",
];
const linkFlags = [
  "-Wl,--export=__stack_pointer",
  // Below everything else, where running out of it is an error and not somebody's memory.
  "-Wl,--stack-first",
  "-Wl,-z,stack-size=1048576",
  "-Wl,--max-memory=4294967296",
  "-Wl,--strip-all",
  "-Wl,--gc-sections",
];

const list = (folder, end) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(end))
    .sort()
    .map((name) => `${folder}/${name}`);
const compiled = () => [...runtime.map((name) => `native/${name}`), ...kernelSources(), ...list("native/wasm", ".cc")];

/** Headers of the addon for Node. */
const nodeHeaders = new Set(["addon", "cpu", "engine", "js"].map((name) => `native/${name}.h`));

/** SHA-256 over the flags and every file that may be part of the module. */
function sourceHash() {
  const headers = [...list("native", ".h"), ...list("native/kernels", ".h"), "native/simd/wasm.h"];
  const sources = new Set([...compiled(), ...list("native/kernels", ".cc")]);
  const hash = createHash("sha256").update(JSON.stringify([flags, linkFlags]));
  for (const path of [...sources, ...headers].sort()) {
    if (nodeHeaders.has(path)) continue;
    hash.update(`\0${path}\0`).update(readFileSync(join(root, path)));
  }
  return hash.digest("hex");
}

/** The hash recorded in the built file, or undefined. */
function recordedHash() {
  if (!existsSync(target)) return undefined;
  const module = new WebAssembly.Module(readFileSync(target));
  const [section] = WebAssembly.Module.customSections(module, "plinth.sources");
  return section === undefined ? undefined : Buffer.from(section).toString();
}

/** A custom section of WebAssembly: id 0, then its size, its name's size, its name and its bytes. */
function customSection(name, bytes) {
  const leb = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
  const body = Buffer.concat([Buffer.from(leb(name.length)), Buffer.from(name), Buffer.from(bytes)]);
  return Buffer.concat([Buffer.from([0, ...leb(body.length)]), body]);
}

function compiler() {
  const candidates = [process.env.CLANG, "clang++", "clang++-19", "clang++-16", "clang++-15", "clang++-14"];
  const found = candidates.find((name) => name && spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0);
  if (found !== undefined) return found;
  console.error(
    "plinth: no clang++ found. Fix: apt-get install clang lld libc++-dev-wasm32 libc++abi-dev-wasm32 libclang-rt-dev-wasm32 wasi-libc",
  );
  process.exit(1);
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  if (result.status === 0) return;
  console.error(result.stderr || result.error?.message);
  console.error(`plinth: ${command} failed. Fix: see the head of scripts/build-wasm.mjs for what it needs.`);
  process.exit(1);
}

const hash = sourceHash();
if (process.argv.includes("--check")) {
  if (recordedHash() !== hash) {
    console.error("plinth: wasm/plinth.wasm is not of these sources. Fix: npm run build:wasm, and commit the file.");
    process.exitCode = 1;
  }
} else {
  const started = performance.now();
  const clang = compiler();
  const folder = join(root, "build", "wasm");
  if (process.argv.includes("--clean")) rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  mkdirSync(join(root, "wasm"), { recursive: true });
  const objects = compiled().map((path) => [path, join(folder, `${path.replaceAll("/", "-")}.o`)]);
  // make compiles what has changed, on all processors.
  const makefile = join(folder, "Makefile");
  const rules = objects.map(
    ([path, object]) =>
      `${object}: ${path} ${makefile}\n\t@${clang} ${flags.join(" ")} -MMD -MP -c ${path} -o ${object}\n`,
  );
  const all = objects.map(([, object]) => object).join(" ");
  const text = `all: ${all}\n${rules.join("")}-include ${all.replaceAll(/\.o\b/g, ".d")}\n`;
  if (!existsSync(makefile) || readFileSync(makefile, "utf8") !== text) writeFileSync(makefile, text);
  run("make", ["-s", `-j${availableParallelism()}`, "-f", makefile, "all"]);
  run(clang, [...flags, ...linkFlags, ...objects.map(([, object]) => object), "-o", target]);
  const bytes = Buffer.concat([readFileSync(target), customSection("plinth.sources", hash)]);
  writeFileSync(target, bytes);
  console.log(
    `plinth: built wasm/${basename(target)}, ${(bytes.length / 1024).toFixed(0)} KiB, in ${((performance.now() - started) / 1000).toFixed(1)} s`,
  );
}
