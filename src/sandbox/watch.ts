import { readFileSync } from "node:fs";

/** What a process and all its descendants hold. */
export interface Usage {
  /** Resident memory, pages that several share counted for each. */
  readonly bytes: number;
  /** Processes and threads. */
  readonly tasks: number;
}

const pageBytes = 4096;

/** Memory and tasks of a process tree as Linux counts them; zero where there is no /proc. */
export function treeUsage(root: number): Usage {
  let bytes = 0;
  let tasks = 0;
  const open = [root];
  for (let pid = open.pop(); pid !== undefined; pid = open.pop()) {
    const folder = `/proc/${pid}`;
    const resident = read(`${folder}/statm`).split(" ")[1];
    bytes += Number(resident ?? 0) * pageBytes;
    // field 20 of stat, counted after the name, which may contain anything
    tasks += Number(read(`${folder}/stat`).split(") ").at(-1)?.split(" ")[17] ?? 0);
    for (const child of read(`${folder}/task/${pid}/children`).split(" ")) if (child !== "") open.push(Number(child));
  }
  return { bytes, tasks };
}

/** A file of /proc; empty when the process is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
