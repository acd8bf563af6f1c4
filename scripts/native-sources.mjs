// Answers binding.gyp: the C++ sources (default), or 1 if the compiler is GCC (--is-gcc).
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

if (process.argv.includes("--is-gcc")) {
  console.log(isGcc() ? "1" : "0");
} else {
  for (const folder of ["native", "native/kernels"]) {
    for (const name of readdirSync(join(root, folder)).sort()) {
      if (name.endsWith(".cc")) console.log(`${folder}/${name}`);
    }
  }
}
