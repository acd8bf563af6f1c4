import type { Language } from "./languages.ts";
import type { SandboxLimits } from "./limits.ts";

/** How a program is kept apart from the machine, as it is, not as it was asked for. */
export interface Isolation {
  readonly mechanism: "namespaces" | "user-namespaces" | "bubblewrap" | "none";
  /** It has no network, not even this machine's own. */
  readonly network: boolean;
  /** It sees system libraries and its interpreter alone, read-only, and can write to its temporary folder alone. */
  readonly files: boolean;
  /** It cannot see or signal other processes, and none of its own outlives it. */
  readonly processes: boolean;
}

/** A run as a mechanism gets it. */
export interface Confinement {
  /** What to run, in the end. */
  readonly command: readonly string[];
  /** Folders and files that it may read. */
  readonly readable: readonly string[];
  /** An empty folder of this run. */
  readonly folder: string;
  readonly limits: SandboxLimits;
  readonly language: Language;
}

/** One way to confine a program. */
export interface Mechanism {
  readonly isolation: Isolation;
  /** Whether it is worth trying here. */
  readonly mayWork: () => boolean;
  /** The command line that runs a confined program; it writes "ready" to descriptor 4 before the program starts. */
  readonly wrap: (confinement: Confinement) => readonly string[];
}

/** What every program may read: the system's programs and libraries, without anybody's data. */
export const systemPaths: readonly string[] = [
  "/bin",
  "/sbin",
  "/lib",
  "/lib32",
  "/lib64",
  "/usr",
  "/etc/ld.so.cache",
  "/etc/alternatives",
  "/nix/store",
];

export const devices: readonly string[] = ["/dev/null", "/dev/zero", "/dev/urandom"];

/** Limits that the kernel keeps for each process. */
export function resourceLimits({ limits, language }: Confinement): string[] {
  const seconds = Math.ceil(limits.cpuSeconds);
  // V8 reserves addresses that it never uses: what is written counts, not what is reserved
  const addresses = language === "python" ? limits.memoryBytes : limits.memoryBytes + 32 * 2 ** 30;
  const data = language === "python" ? limits.memoryBytes : limits.memoryBytes + 512 * 2 ** 20;
  return [
    "prlimit",
    `--cpu=${seconds}:${seconds + 1}`,
    `--as=${addresses}`,
    `--data=${data}`,
    `--fsize=${limits.fileBytes}`,
    `--nofile=256`,
    `--core=0`,
    `--memlock=0`,
  ];
}
