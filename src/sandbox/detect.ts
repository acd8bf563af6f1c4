import { spawnSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PlinthError } from "../base/index.ts";
import { bubblewrap } from "./bubblewrap.ts";
import type { Isolation, Mechanism } from "./isolation.ts";
import { defaultLimits } from "./limits.ts";
import { namespaces, userNamespaces } from "./namespaces.ts";
import { plain } from "./plain.ts";

/** Environment of everything that a sandbox runs: nothing of the user's own. */
export const environment: Readonly<Record<string, string>> = {
  PATH: "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/tmp",
  TMPDIR: "/tmp",
  LANG: "C.UTF-8",
};

const candidates: readonly Mechanism[] = [namespaces, userNamespaces, bubblewrap];

interface Detected {
  readonly mechanism: Mechanism | undefined;
  /** Why each of those before it does not work. */
  readonly failures: readonly string[];
}

let detected: Detected | undefined;

/** How programs are isolated on this machine: found by trying, once. */
export function sandboxIsolation(): Isolation {
  return (detect().mechanism ?? plain).isolation;
}

/**
 * The mechanism to use. Throws PlinthError with the reasons and the fix when none is at hand that keeps a program from
 * network and files, unless `allowUnsafe`.
 */
export function chooseMechanism(allowUnsafe: boolean): Mechanism {
  const { mechanism, failures } = detect();
  if (mechanism !== undefined) return mechanism;
  if (allowUnsafe && plain.mayWork()) return plain;
  throw new PlinthError(
    `generated programs cannot be kept from this machine's network and files (${failures.join("; ") || `not on ${process.platform}`})`,
    "install bubblewrap, or let users make namespaces (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or on a machine that has nothing to lose allow unsafe runs (plinth eval --allow-unsafe)",
  );
}

/** Puts a finding in place of this machine's own, for tests. Returns what undoes it. */
export function overrideDetection(finding: Detected): () => void {
  const before = detected;
  detected = finding;
  return () => {
    detected = before;
  };
}

function detect(): Detected {
  if (detected !== undefined) return detected;
  const failures: string[] = [];
  for (const mechanism of candidates.filter(({ mayWork }) => mayWork())) {
    const failure = probe(mechanism);
    if (failure === undefined) {
      detected = { mechanism, failures };
      return detected;
    }
    failures.push(`${mechanism.isolation.mechanism}: ${failure}`);
  }
  detected = { mechanism: undefined, failures };
  return detected;
}

/** Runs a confined shell that says a word. Returns why that did not work. */
export function probe(mechanism: Mechanism): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "plinth-sandbox-"));
  try {
    const [program = "", ...args] = mechanism.wrap({
      command: ["sh", "-c", "echo inside"],
      readable: [],
      folder,
      limits: defaultLimits,
      language: "python",
    });
    const { error, stdout, stderr } = spawnSync(program, args, {
      env: environment,
      encoding: "utf8",
      timeout: 20_000,
      killSignal: "SIGKILL",
      stdio: ["ignore", "pipe", "pipe", "ignore", "pipe"],
    });
    if (error === undefined && stdout.trim() === "inside") return undefined;
    const code = (error as NodeJS.ErrnoException | undefined)?.code;
    return code === "ENOENT" ? `${program} is not installed` : (error?.message ?? stderr.trim().split("\n")[0] ?? "");
  } finally {
    rmdirSync(folder);
  }
}
