// Answers binding.gyp: sources compiled once (--runtime), sources compiled for each instruction set (--variant), or 1 if
// the compiler is GCC (--is-gcc).
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");

function isGcc() {
  const compiler = (process.env.CXX ?? "c++").split(" ")[0];
  try {
    const version = execFileSync(compiler, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return /Free Software Foundation/.test(version) && !/clang/i.test(version);
  } catch {
    return false; // Windows, or named otherwise: flags that only GCC knows are left out
  }
}

/** These contain or choose code by instruction set; so does every kernel. */
const variantSources = ["native/addon_entry.cc", "native/limits.cc"];
const smallKernels = "native/small_kernels.cc";

function sources(folder) {
  const names = readdirSync(join(root, folder)).filter((name) => name.endsWith(".cc"));
  return names.sort().map((name) => `${folder}/${name}`);
}

/** What the kernels are compiled from: their files, except that one file includes the small ones. */
export function kernelSources() {
  const included = readFileSync(join(root, smallKernels), "utf8").matchAll(/^#include "(kernels\/.*\.cc)"/gm);
  const small = new Set(Array.from(included, ([, path]) => `native/${path}`));
  return [smallKernels, ...sources("native/kernels").filter((path) => !small.has(path))];
}

/** Sources that are the same in every variant. */
export function runtimeSources() {
  return sources("native").filter((path) => path !== smallKernels && !variantSources.includes(path));
}

if (process.argv.includes("--is-gcc")) console.log(isGcc() ? "1" : "0");
if (process.argv.includes("--runtime")) console.log(runtimeSources().join("\n"));
if (process.argv.includes("--variant")) console.log([...variantSources, ...kernelSources()].join("\n"));
