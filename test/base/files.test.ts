import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeFolder } from "../../src/base/index.ts";

test("a folder is made with those above it, and again without an error", async (t) => {
  const root = await mkdtemp(join(tmpdir(), "plinth-files-"));
  t.after(() => rm(root, { recursive: true }));
  for (let i = 0; i < 2; i++) await makeFolder(join(root, "a", "b"));
  assert.ok((await stat(join(root, "a", "b"))).isDirectory());
  await writeFile(join(root, "file"), "");
  await assert.rejects(makeFolder(join(root, "file", "x")), {
    name: "PlinthError",
    message: `cannot write ${join(root, "file", "x")}: a part of the path is a file, not a folder. Fix: choose another folder with --out.`,
  });
});

test("a read-only file system is named as what it is", async (t) => {
  const root = await mkdtemp(join(tmpdir(), "plinth-files-"));
  t.after(() => rm(root, { recursive: true }));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", root], { encoding: "utf8" });
  if (mounted.status !== 0) return t.skip(`a read-only file system cannot be mounted here: ${mounted.stderr}`);
  try {
    for (const path of [join(root, "run"), join(root, "run", "checkpoints")]) {
      await assert.rejects(makeFolder(path), {
        name: "PlinthError",
        message: `cannot write ${path}: the file system is read-only. Fix: choose another folder with --out.`,
      });
    }
    assert.deepEqual(await readdir(root), []);
  } finally {
    spawnSync("umount", [root]);
  }
});
