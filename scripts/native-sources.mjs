// Answers binding.gyp: sources compiled once (--runtime), sources compiled for each instruction set (--variant), or 1 if
// the compiler is GCC (--is-gcc).
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
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

// These contain or choose code by instruction set; so does every kernel.
const variantSources = ["addon.cc", "cpu.cc"];

function sources(folder) {
  const names = readdirSync(join(root, folder)).filter((name) => name.endsWith(".cc"));
  return names.sort().map((name) => `${folder}/${name}`);
}

if (process.argv.includes("--is-gcc")) {
  console.log(isGcc() ? "1" : "0");
} else if (process.argv.includes("--runtime")) {
  console.log(
    sources("native")
      .filter((path) => !variantSources.some((name) => path.endsWith(`/${name}`)))
      .join("\n"),
  );
} else {
  console.log([...variantSources.map((name) => `native/${name}`), ...sources("native/kernels")].join("\n"));
}
