import { randomInt } from "node:crypto";
import { existsSync, lstatSync, readlinkSync } from "node:fs";
import { dirname } from "node:path";
import { type Confinement, devices, type Mechanism, resourceLimits, systemPaths } from "./isolation.ts";

/**
 * Runs as the first process of the namespaces: builds a file system of read-only binds with one small writable /tmp,
 * moves into it, lets go of the old one and starts the program as its child. When that ends, the kernel kills whatever
 * it left behind, and the temporary files vanish with the mounts.
 */
function initScript(readable: readonly string[], fileBytes: number): string {
  const paths = [...systemPaths, ...readable].filter((path) => existsSync(path));
  const links = paths.filter((path) => lstatSync(path).isSymbolicLink());
  const folders = paths.filter((path) => lstatSync(path).isDirectory());
  const files = paths.filter((path) => lstatSync(path).isFile() && !folders.some((folder) => isWithin(path, folder)));
  const inside = (path: string) => quote(`.${path}`);
  const bind = (options: string) => (path: string) => `mount -o ${options} ${quote(path)} ${inside(path)}`;
  return [
    "set -eu; umask 022",
    'mount -t tmpfs -o mode=755,size=1m,nosuid,nodev plinth "$1"',
    'cd "$1"',
    `mkdir -p tmp old dev ${[...folders, ...files.map(dirname)].map(inside).join(" ")}`,
    ...links.map((path) => `ln -s ${quote(readlinkSync(path))} ${inside(path)}`),
    "ln -s old/proc proc",
    ...[...devices, ...files].map((path) => `: >${inside(path)}`),
    ...folders.map(bind("rbind,ro,nosuid")),
    ...files.map(bind("bind,ro,nosuid")),
    ...devices.map(bind("bind")),
    // what is mounted inside of those folders, and the root itself
    "while read -r _ _ _ _ point options _; do case $point,$options, in",
    '  "$1"/dev/*|*,ro,*) ;;',
    '  "$1",*|"$1"/*) mount -o remount,bind,ro,nosuid "$point" ;;',
    "esac; done </proc/self/mountinfo",
    `mount -t tmpfs -o mode=1777,size=${fileBytes},nr_inodes=4096,nosuid,nodev plinth tmp`,
    'if [ "$2" = user ]; then echo 0 >/proc/sys/user/max_user_namespaces; fi',
    "pivot_root . old; cd /tmp; umount -l /old",
    'shift 2; echo ready >&4; "$@"',
  ].join("\n");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function isWithin(path: string, folder: string): boolean {
  return path.startsWith(`${folder}/`);
}

const flags = ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child=KILL"];

function wrap(confinement: Confinement, privileged: boolean): readonly string[] {
  const { command, readable, folder, limits } = confinement;
  // a user of its own per run: the kernel counts processes by user. In a user namespace it counts them by namespace.
  const user = `${randomInt(2 ** 20, 2 ** 30)}`;
  const become = privileged ? ["--reuid", user, "--regid", user, "--clear-groups"] : [];
  return [
    ...[
      "setpriv",
      "--pdeathsig",
      "KILL",
      "--",
      "unshare",
      ...(privileged ? [] : ["--user", "--map-root-user"]),
      ...flags,
    ],
    ...["sh", "-c", initScript(readable, limits.fileBytes), "sandbox", folder, privileged ? "root" : "user"],
    ...["setpriv", ...become, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"],
    ...[...resourceLimits(confinement), `--nproc=${limits.processes}`, "--", ...command],
  ];
}

/** Linux namespaces made by root, who then becomes a user that owns nothing. */
export const namespaces: Mechanism = {
  isolation: { mechanism: "namespaces", network: true, files: true, processes: true },
  mayWork: () => process.platform === "linux" && process.getuid?.() === 0,
  wrap: (confinement) => wrap(confinement, true),
};

/** The same inside a user namespace, which most Linux systems let anybody make. */
export const userNamespaces: Mechanism = {
  isolation: { mechanism: "user-namespaces", network: true, files: true, processes: true },
  mayWork: () => process.platform === "linux",
  wrap: (confinement) => wrap(confinement, false),
};
