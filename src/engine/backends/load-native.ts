import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { nearestName, PlinthError, packageRoot } from "../../base/index.ts";
import type { ProgramSpec } from "../compile/program.ts";
import type { KernelTimes } from "./backend.ts";

/** A program held by the native runner. */
export interface NativeProgram {
  readonly nativeProgram: unique symbol;
}

/** What the C++ addon offers (`native/KERNELS.md`). */
export interface NativeAddon {
  isa(): string;
  cpuFeatures(): string[];
  setThreads(count: number): void;
  threads(): number;
  allocate(bytes: number): ArrayBuffer;
  mapFile(path: string): ArrayBuffer;
  kernels(): string[];
  opcodes(): Record<string, number>;
  createProgram(spec: ProgramSpec): NativeProgram;
  run(program: NativeProgram, inputs: readonly ArrayBufferView[], outputs: readonly ArrayBufferView[]): Promise<void>;
  profile(program: NativeProgram, on: boolean): void;
  profileResult(program: NativeProgram): KernelTimes[];
  fmaPeak(seconds: number, threads: number): number;
  bfloat16Peak(seconds: number, threads: number): number;
  bandwidth(seconds: number, threads: number): number;
}

/** Thrown where the addon has not been built for this machine; wrong settings throw plain PlinthErrors. */
export class NativeMissingError extends PlinthError {}

/** Instruction-set variants, best last, with the CPU features that each needs. */
const variants: Readonly<Record<string, { readonly arch: string; readonly needs: readonly string[] }>> = {
  baseline: { arch: "any", needs: [] },
  neon: { arch: "arm64", needs: ["neon"] },
  avx2: { arch: "x64", needs: ["avx2", "fma", "f16c"] },
  avx512: { arch: "x64", needs: ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq"] },
  avx512bf16: {
    arch: "x64",
    needs: ["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"],
  },
};
export const isaVariants: readonly string[] = Object.keys(variants);

const requireAddon = createRequire(import.meta.url);
const loaded = new Map<string, NativeAddon>();

/** Where a variant's file is: compiled here, or shipped in the package; undefined when neither. */
export function findVariant(variant: string): string | undefined {
  const root = packageRoot();
  const file = `plinth-${variant}.node`;
  return [
    join(root, "build", "Release", file),
    join(root, "prebuilds", `${process.platform}-${process.arch}`, file),
  ].find((path) => existsSync(path));
}

/** Variants whose files exist for this machine's architecture. */
export function builtVariants(): string[] {
  return isaVariants.filter((variant) => {
    const arch = variants[variant]?.arch;
    return (arch === "any" || arch === process.arch) && findVariant(variant) !== undefined;
  });
}

function loadVariant(variant: string): NativeAddon {
  const known = loaded.get(variant);
  if (known !== undefined) return known;
  const path = findVariant(variant);
  if (path === undefined) {
    throw new NativeMissingError(
      `the native engine (plinth-${variant}.node) is not built`,
      "install a C++20 compiler and run: npm run build:native",
    );
  }
  let addon: NativeAddon;
  try {
    addon = requireAddon(path) as NativeAddon;
  } catch (error) {
    throw new NativeMissingError(
      `the native engine ${path} does not load (${(error as Error).message})`,
      "build it for this machine: npm run build:native",
      { cause: error },
    );
  }
  try {
    addon.threads();
  } catch (error) {
    // PLINTH_THREADS is wrong; the message says so and how to mend it.
    throw new PlinthError((error as Error).message, undefined, { cause: error });
  }
  loaded.set(variant, addon);
  return addon;
}

/**
 * The best variant of the native engine for this CPU, or the one named by PLINTH_ISA. Throws NativeMissingError when
 * nothing is built, PlinthError when PLINTH_ISA is unknown, not built or beyond this CPU.
 */
export function loadNative(isa: string | undefined = process.env["PLINTH_ISA"]): NativeAddon {
  const built = builtVariants();
  // Even asking what the CPU can do takes native code, so the variant that runs everywhere comes first.
  const features = new Set(loadVariant(built[0] ?? "baseline").cpuFeatures());
  const missing = (variant: string): string[] => (variants[variant]?.needs ?? []).filter((need) => !features.has(need));
  if (isa === undefined || isa === "") {
    return loadVariant(built.findLast((variant) => missing(variant).length === 0) ?? "baseline");
  }
  if (variants[isa] === undefined) {
    const near = nearestName(isa, isaVariants);
    throw new PlinthError(
      `PLINTH_ISA: "${isa}" is not an instruction set${near === undefined ? "" : ` (did you mean "${near}"?)`}`,
      `use one of ${isaVariants.join(", ")}, or unset it`,
    );
  }
  if (missing(isa).length > 0) {
    throw new PlinthError(`PLINTH_ISA: this CPU has no ${missing(isa).join(", ")}, which ${isa} needs`, "unset it");
  }
  if (!built.includes(isa)) {
    throw new PlinthError(`PLINTH_ISA: the variant ${isa} is not built`, "run npm run build:native, or unset it");
  }
  return loadVariant(isa);
}
