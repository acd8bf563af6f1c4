import { type Confinement, type Mechanism, resourceLimits } from "./isolation.ts";

/**
 * No isolation: a process in a folder of its own with the limits that the system knows. Network, files and processes of
 * the user are all within its reach, and a process that leaves its session outlives it.
 */
export const plain: Mechanism = {
  isolation: { mechanism: "none", network: false, files: false, processes: false },
  mayWork: () => process.platform !== "win32",
  wrap: (confinement) => [
    ...["sh", "-c", 'cd "$1" && shift && echo ready >&4 && exec "$@"', "plain", confinement.folder],
    ...(process.platform === "linux" ? [...resourceLimits(confinement), "--"] : shellLimits(confinement)),
    ...confinement.command,
  ],
};

function shellLimits({ limits }: Confinement): string[] {
  return ["sh", "-c", `ulimit -t ${Math.ceil(limits.cpuSeconds)} -c 0; exec "$@"`, "limits"];
}
