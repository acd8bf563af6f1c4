import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { builtVariants, loadNative, NativeMissingError } from "./backends/load-native.ts";
import { availableMemory } from "./compile/memory-limit.ts";

/** What this machine offers to the engine. */
export interface HostInfo {
  readonly platform: string;
  readonly node: string;
  readonly cpu: string;
  /** Processors that this process may use. */
  readonly cores: number;
  /** Threads that programs run on. */
  readonly threads: number;
  /** Bytes. */
  readonly totalMemory: number;
  readonly availableMemory: number;
  /** The native engine, or why there is none. */
  readonly native:
    | { readonly isa: string; readonly built: readonly string[]; readonly cpuFeatures: readonly string[] }
    | { readonly missing: string };
}

/** Describes the machine and the native engine. Throws PlinthError only for wrong settings (PLINTH_ISA, PLINTH_THREADS). */
export function hostInfo(): HostInfo {
  const machine = {
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
    cpu: cpuModel(),
    cores: availableParallelism(),
    totalMemory: totalmem(),
    availableMemory: availableMemory(),
  };
  try {
    const addon = loadNative();
    return {
      ...machine,
      threads: addon.threads(),
      native: { isa: addon.isa(), built: builtVariants(), cpuFeatures: addon.cpuFeatures() },
    };
  } catch (error) {
    if (!(error instanceof NativeMissingError)) throw error;
    return { ...machine, threads: 1, native: { missing: error.message } };
  }
}

function cpuModel(): string {
  const model = cpus()[0]?.model.trim() ?? "";
  return model === "" || model === "unknown" ? process.arch : model;
}

/** Bytes of a file: mapped into memory where the native engine loads (private to this process), else read. */
export function mapFile(path: string): ArrayBuffer {
  let addon: ReturnType<typeof loadNative>;
  try {
    addon = loadNative();
  } catch (error) {
    if (!(error instanceof NativeMissingError)) throw error;
    const bytes = readFileSync(path);
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  }
  return addon.mapFile(path);
}

/**
 * Zeroed memory for large arrays that programs read often: the native engine's own, on large pages where the system has
 * them, else ordinary memory.
 */
export function allocateBytes(bytes: number): ArrayBuffer {
  try {
    return loadNative().allocate(bytes);
  } catch (error) {
    if (!(error instanceof NativeMissingError)) throw error;
    return new ArrayBuffer(bytes);
  }
}

/** Rates of this machine, measured now. */
export interface MachineLimits {
  /** Register-resident float32 multiply-adds, in 10^9 operations per second. */
  readonly gflops: number;
  /** Products of bfloat16 pairs summed in float32; as float32 where the processor or the variant has no such instruction. */
  readonly bfloat16Gflops: number;
  /** Reading memory larger than the caches, in 10^9 bytes per second. */
  readonly gigabytesPerSecond: number;
}

/** Measures what the machine can do at most, for `seconds` each. Throws PlinthError without the native engine. */
export function measureLimits(options: { seconds?: number; threads?: number } = {}): MachineLimits {
  const addon = loadNative();
  const seconds = options.seconds ?? 0.2;
  const threads = options.threads ?? addon.threads();
  return {
    gflops: addon.fmaPeak(seconds, threads),
    bfloat16Gflops: addon.bfloat16Peak(seconds, threads),
    gigabytesPerSecond: addon.bandwidth(seconds, threads),
  };
}
