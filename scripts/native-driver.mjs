// Builds native/driver, which runs programs from files without Node, in several ways; and writes the files.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { kernelSources, runtimeSources } from "./native-sources.mjs";

export const root = join(import.meta.dirname, "..");

const wide = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c"];
/** As in binding.gyp. */
const isaFlags = {
  baseline: [],
  avx2: ["-mavx2", "-mfma", "-mf16c"],
  avx512: [...wide, "-mprefer-vector-width=512"],
  avx512bf16: ["-DPLINTH_AVX512_BF16", "-mavx512bf16", ...wide, "-mprefer-vector-width=512"],
  neon: [],
};
/** ThreadSanitizer does not know fences; the engine uses none. */
const ways = {
  plain: { compiler: process.env.CXX ?? "g++", flags: ["-O2"] },
  neon: { compiler: process.env.CXX_AARCH64 ?? "aarch64-linux-gnu-g++", flags: ["-O2"], link: ["-static"] },
  address: {
    compiler: process.env.CXX ?? "g++",
    flags: ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
  },
  thread: { compiler: process.env.CXX ?? "g++", flags: ["-O1", "-g1", "-fsanitize=thread"] },
};

/** The best instruction set of this machine that the tests can build for. */
export function hostIsa() {
  if (process.arch === "arm64") return "neon";
  const cpu = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : "";
  const has = (...names) => names.every((name) => new RegExp(`\\b${name}\\b`).test(cpu));
  if (has("avx512f", "avx512bw", "avx512vl", "avx512dq")) return has("avx512_bf16") ? "avx512bf16" : "avx512";
  return has("avx2", "fma", "f16c") ? "avx2" : "baseline";
}

/** Compiles what has changed and gives the program's path, or undefined after saying what is missing. */
export function buildDriver(way, isa) {
  const { compiler, flags, link = [] } = ways[way];
  if (spawnSync(compiler.split(" ")[0], ["--version"], { stdio: "ignore" }).status !== 0) {
    const what = way === "neon" ? "g++-aarch64-linux-gnu" : "g++";
    console.error(`plinth: ${compiler} not found. Fix: apt-get install ${what}`);
    return undefined;
  }
  const folder = join(root, "build", "driver", `${way}-${isa}`);
  mkdirSync(folder, { recursive: true });
  const all = ["-std=c++20", "-Wall", "-Wextra", "-Inative", "-pthread", "-ffp-contract=off", "-fno-math-errno"];
  const compile = [compiler, ...all, "-fno-trapping-math", ...flags, ...(isaFlags[isa] ?? [])].join(" ");
  const withoutNode = runtimeSources().filter((path) => path !== "native/addon.cc");
  const files = [...withoutNode, "native/limits.cc", ...kernelSources(), "native/driver/main.cc"];
  const objects = files.map((path) => [path, join(folder, `${path.replaceAll("/", "-")}.o`)]);
  const names = objects.map(([, object]) => object).join(" ");
  const program = join(folder, "driver");
  const makefile = join(folder, "Makefile");
  const text = [
    `${program}: ${names}\n\t@${compile} ${link.join(" ")} ${names} -o ${program}\n`,
    ...objects.map(
      ([path, object]) => `${object}: ${path} ${makefile}\n\t@${compile} -MMD -MP -c ${path} -o ${object}\n`,
    ),
    `-include ${names.replaceAll(/\.o\b/g, ".d")}\n`,
  ].join("");
  if (!existsSync(makefile) || readFileSync(makefile, "utf8") !== text) writeFileSync(makefile, text);
  const started = performance.now();
  const jobs = process.env.JOBS ?? String(availableParallelism());
  const made = spawnSync("make", ["-s", `-j${jobs}`, "-f", makefile, program], { cwd: root, stdio: "inherit" });
  if (made.status !== 0) return undefined;
  console.log(`plinth: driver (${way}, ${isa}) built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return program;
}

/** Compiles the TypeScript of the tests into a folder of its own; gives the folder. */
export function compileTests() {
  const out = join(root, "build", "driver", "js");
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const result = spawnSync(process.execPath, [tsc, "-p", join(root, "tsconfig.test.json"), "--outDir", out], {
    stdio: "inherit",
  });
  return result.status === 0 ? out : undefined;
}

/** Writes cases: `kind` is one of test/native/write-cases.ts. Gives the file's path. */
export function writeCases(js, kind, { seed = 1, count = 0 } = {}) {
  const path = join(root, "build", "driver", `${kind}-${seed}.cases`);
  const script = join(js, "test", "native", "write-cases.js");
  const result = spawnSync(process.execPath, [script, kind, path, String(seed), String(count)], { stdio: "inherit" });
  if (result.status !== 0) throw new Error(`writing ${kind} cases failed`);
  return path;
}
