import { existsSync, lstatSync, readlinkSync } from "node:fs";
import { devices, type Mechanism, resourceLimits, systemPaths } from "./isolation.ts";

/** bubblewrap (`bwrap`), which distributions allow to make namespaces where they do not let everybody. */
export const bubblewrap: Mechanism = {
  isolation: { mechanism: "bubblewrap", network: true, files: true, processes: true },
  mayWork: () => process.platform === "linux",
  wrap: (confinement) => {
    const { command, readable, limits } = confinement;
    const binds = [...new Set([...systemPaths, ...readable])].filter((path) => existsSync(path));
    return [
      ...["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"],
      ...binds.flatMap((path) =>
        lstatSync(path).isSymbolicLink() ? ["--symlink", readlinkSync(path), path] : ["--ro-bind", path, path],
      ),
      ...devices.flatMap((path) => ["--dev-bind", path, path]),
      ...["--size", `${limits.fileBytes}`, "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"],
      ...["sh", "-c", 'echo ready >&4; exec "$@"', "sandbox"],
      ...[...resourceLimits(confinement), `--nproc=${limits.processes}`, "--", ...command],
    ];
  },
};
