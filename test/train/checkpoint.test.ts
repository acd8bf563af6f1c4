import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { listCheckpoints, train } from "../../src/train/index.ts";
import { bytesOf, ToyData, temporaryFolder, toyFiles, toyOptions } from "./toy.ts";

test("a full disk during a checkpoint: one clear error, earlier checkpoints intact, and the run resumes", async (t) => {
  const out = await temporaryFolder(t);
  const expected = await train(toyOptions(await temporaryFolder(t), { checkpointEvery: 4, data: new ToyData(8) }));
  let saves = 0;
  const full = {
    ...toyFiles,
    async save(parameters: Parameters<typeof toyFiles.save>[0], folder: string): Promise<void> {
      if (++saves === 2) {
        await writeFile(join(folder, "model.safetensors"), "half of it");
        throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
      }
      await toyFiles.save(parameters, folder);
    },
  };
  await assert.rejects(train(toyOptions(out, { checkpointEvery: 4, data: new ToyData(8), files: full })), {
    name: "PlinthError",
    message: `cannot write ${join(out, "checkpoints", "step-000008")}: the disk is full. Fix: free some space and run the same command again (a training run with --resume); what was saved before is intact.`,
  });
  assert.deepEqual(await readdir(join(out, "checkpoints")), ["step-000004"]);
  const resumed = await train(toyOptions(out, { checkpointEvery: 4, data: new ToyData(8), resume: true }));
  assert.deepEqual(bytesOf(resumed.parameters), bytesOf(expected.parameters));
});

/** Runs a program that trains a toy into argv[1], with what a shell can do to it. */
function trainInShell(before: string, out: string, options: { uid?: number } = {}) {
  const toy = join(import.meta.dirname, `toy.${import.meta.filename.endsWith(".ts") ? "ts" : "js"}`);
  const index = join(import.meta.dirname, "..", "..", "src", "train", `index.${toy.endsWith(".ts") ? "ts" : "js"}`);
  const program = `
    const { toyOptions } = await import(${JSON.stringify(toy)});
    const { train } = await import(${JSON.stringify(index)});
    await train(toyOptions(process.argv[1], { checkpointEvery: 4, resume: true })).then(
      () => console.log("done"),
      (error) => console.log(error.name + ": " + error.message),
    );`;
  const command = `${before} exec "$0" --input-type=module -e "$1" "$2"`;
  return spawnSync("sh", ["-c", command, process.execPath, program, out], { encoding: "utf8", ...options });
}

test("a file that may not grow (ulimit -f 0) fails the write itself, not only its mock", async (t) => {
  const out = await temporaryFolder(t);
  const { stdout, stderr } = trainInShell("ulimit -f 0;", out);
  assert.match(stdout, /^PlinthError: cannot write .*: the file is too large for this file system\. Fix: /, stderr);
  assert.deepEqual(await listCheckpoints(out), []);
});

test("a disk that is really full", async (t) => {
  const out = await temporaryFolder(t);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", out], { encoding: "utf8" });
  if (mounted.status !== 0)
    return t.skip(`a small file system cannot be mounted here: ${mounted.stderr ?? mounted.error}`);
  try {
    await writeFile(join(out, "ballast"), Buffer.alloc(32 * 1024));
    const { stdout, stderr } = trainInShell("", out);
    assert.match(stdout, /^PlinthError: cannot write .*: the disk is full\. Fix: free some space/, stderr);
  } finally {
    spawnSync("umount", [out]);
  }
});

test("a read-only folder is refused before anything is computed", async (t) => {
  const folder = await temporaryFolder(t);
  await chmod(folder, 0o555);
  // Permissions do not bind root.
  const isRoot = process.getuid?.() === 0;
  const { stdout, stderr } = trainInShell("", join(folder, "run"), isRoot ? { uid: 65534 } : {});
  assert.match(
    stdout,
    /^PlinthError: cannot write .*run: permission denied\. Fix: choose a folder that you may write to with --out\.$/m,
    stderr,
  );
});

test("a path through a file is refused", async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, "file"), "");
  await assert.rejects(train(toyOptions(join(folder, "file", "run"))), {
    message: /^cannot write .*: a part of the path is a file, not a folder\. Fix: choose another folder with --out\.$/,
  });
});

test("what a killed process left half written is cleared, and is never taken for a checkpoint", async (t) => {
  const out = await temporaryFolder(t);
  const left = join(out, "checkpoints", ".tmp-step-000008-1-abcd");
  await mkdir(left, { recursive: true });
  await writeFile(join(left, "model.safetensors"), "part");
  assert.deepEqual(await listCheckpoints(out), []);
  const notes: string[] = [];
  await train(toyOptions(out, { resume: true, onEvent: (event) => event.kind === "note" && notes.push(event.text) }));
  assert.deepEqual(notes, [`${out} has no checkpoint yet; starting from the beginning`]);
  assert.deepEqual(await readdir(join(out, "checkpoints")), ["step-000012"]);
});

test("a damaged checkpoint names its file and the way out", async (t) => {
  const out = await temporaryFolder(t);
  await train(toyOptions(out));
  const folder = join(out, "checkpoints", "step-000012");
  const state = JSON.parse(await readFile(join(folder, "state.json"), "utf8"));
  await writeFile(join(folder, "state.json"), JSON.stringify({ ...state, format: 9 }));
  await assert.rejects(train(toyOptions(out, { resume: true })), {
    message: `${join(folder, "state.json")}: expected a checkpoint state of format 1, got format 9. Fix: resume with the version of Plinth that wrote it.`,
  });
  await writeFile(join(folder, "state.json"), '{"format": 1, ');
  await assert.rejects(train(toyOptions(out, { resume: true })), { message: /state\.json: not valid JSON/ });
});

test("lines after the checkpoint, and a cut one, disappear from the metrics on resuming", async (t) => {
  const out = await temporaryFolder(t);
  const stop = new AbortController();
  const options = { checkpointEvery: 4, data: new ToyData(8) };
  await train(
    toyOptions(out, {
      ...options,
      signal: stop.signal,
      onEvent: (e) => e.kind === "step" && e.step === 4 && stop.abort(),
    }),
  );
  const path = join(out, "metrics.jsonl");
  const saved = await readFile(path, "utf8");
  await writeFile(path, `${saved}{"step":5,"loss":1}\n{"step":6,"lo`);
  await train(toyOptions(out, { ...options, data: new ToyData(8), resume: true }));
  const steps = (await readFile(path, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line).step);
  assert.deepEqual(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});

test("a second run into the same folder is refused while the first goes on, and not after it was killed", async (t) => {
  const out = await temporaryFolder(t);
  let second: Promise<unknown> | undefined;
  await train(
    toyOptions(out, {
      onEvent: (event) => {
        if (event.kind === "start")
          second = train(toyOptions(out, { resume: true })).catch((error: Error) => error.message);
      },
    }),
  );
  assert.match(
    String(await second),
    new RegExp(`^${out}: process ${process.pid} is training into this folder\\. Fix: wait for it or stop it`),
  );
  await writeFile(join(out, ".lock"), "999999 1");
  assert.equal((await train(toyOptions(out, { resume: true }))).status, "complete");
  assert.ok(!(await readdir(out)).includes(".lock"));
});
