import { readFileSync } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { explainWriteError, PlinthError } from "../base/index.ts";

/**
 * Keeps a second process from training into the same folder: the two would delete each other's checkpoints. A lock left
 * by a process that was killed does not count. Gives the function that releases it. Throws PlinthError naming the process
 * that holds it.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, ".lock");
  const own = identify(process.pid) ?? `${process.pid}`;
  for (;;) {
    try {
      const file = await open(path, "wx");
      await file.writeFile(own).finally(() => file.close());
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw explainWriteError(error, path);
    }
    const holder = await readFile(path, "utf8").catch(() => "");
    const pid = Number.parseInt(holder, 10);
    if (pid > 0 && identify(pid) === holder) {
      throw new PlinthError(
        `${folder}: process ${pid} is training into this folder`,
        `wait for it or stop it, or choose another --out; if there is no such process, delete ${path}`,
      );
    }
    await rm(path, { force: true });
  }
}

/** A text that only this process has, as far as the system tells; undefined when there is no such process. */
function identify(pid: number): string | undefined {
  try {
    // The start time (field 22) tells a process from a later one with the same number.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return `${pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    // No /proc, or no such process.
  }
  try {
    process.kill(pid, 0);
    return `${pid}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" ? `${pid}` : undefined;
  }
}
