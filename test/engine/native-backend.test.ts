import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { builtVariants, loadNative } from "../../src/engine/backends/load-native.ts";
import {
  add,
  createBackend,
  flatten,
  gather,
  hostInfo,
  jit,
  matmul,
  mul,
  NdArray,
  type Tensor,
  tanh,
} from "../../src/engine/index.ts";
import { type ToyConfig, toyArguments, toySpecs, toyStep } from "./toy-transformer.ts";

const engine = new URL("../../src/engine/index.js", import.meta.url).href;
const small: ToyConfig = { layers: 2, width: 16, heads: 2, vocabulary: 31, context: 7, batch: 3 };

/** Largest difference relative to max(1, |expected|) over all leaves. */
async function largestError(actual: unknown, expected: unknown): Promise<number> {
  let worst = 0;
  const given = flatten(actual as NdArray);
  for (const [i, [path, array]] of flatten(expected as NdArray).entries()) {
    const [otherPath, other] = given[i] as [string, NdArray];
    assert.equal(otherPath, path);
    const [a, b] = [await other.read(), await array.read()];
    assert.equal(a.length, b.length, path);
    for (let k = 0; k < b.length; k++) {
      const error = Math.abs((a[k] as number) - (b[k] as number)) / Math.max(1, Math.abs(b[k] as number));
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

for (const plainAttention of [true, false]) {
  const name = plainAttention ? "with attention from products and softmax" : "with the attention kernel";
  test(`a training step ${name} agrees with the reference, three steps in a row`, async () => {
    const config = { ...small, plainAttention };
    const native = jit(toyStep(config), { donate: [0], backend: createBackend("native") });
    const reference = jit(toyStep(config), { donate: [0], backend: createBackend("reference") });
    let [a, tokens, targets, lr] = toyArguments(config);
    let [b] = toyArguments(config);
    for (let step = 0; step < 3; step++) {
      const fromNative = await native(a, tokens, targets, lr);
      const fromReference = await reference(b, tokens, targets, lr);
      const error = await largestError(fromNative, fromReference);
      assert.ok(error < 1e-4, `step ${step}: ${error}`);
      a = fromNative.state;
      b = fromReference.state;
    }
  });
}

const square: [NdArray, NdArray] = [0, 1].map((seed) =>
  NdArray.float32(
    [48, 48],
    Array.from({ length: 48 * 48 }, (_, i) => Math.sin(seed + i) / 7),
  ),
) as [NdArray, NdArray];
const chain = (x: Tensor, w: Tensor): Tensor => tanh(matmul(tanh(matmul(x, w)), w));

test("runs of one program may overlap and keep their own results", async () => {
  const f = jit((x: Tensor, n: Tensor) => mul(chain(x, x), n), { backend: createBackend("native") });
  const one = await f(square[0], NdArray.scalar(1));
  const results = await Promise.all([1, 2, 3, 4].map((n) => f(square[0], NdArray.scalar(n))));
  results.forEach((result, k) => {
    result.data.forEach((value, i) => {
      assert.ok(Math.abs(value - (k + 1) * (one.data[i] as number)) < 1e-5);
    });
  });
});

test("results do not depend on the number of threads, to the bit", async () => {
  const backend = createBackend("native");
  const before = backend.threads?.() as number;
  const config = { ...small, context: 64, width: 32 };
  const outputs: Uint8Array[] = [];
  try {
    for (const threads of [1, 2, 3]) {
      backend.setThreads?.(threads);
      assert.equal(backend.threads?.(), threads);
      const out = await jit(toyStep(config), { backend })(...toyArguments(config));
      const arrays = flatten(out as unknown as NdArray).map(([, array]) => array.data);
      outputs.push(
        Buffer.concat(arrays.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength))),
      );
    }
  } finally {
    backend.setThreads?.(before);
  }
  assert.ok(outputs.every((bytes) => Buffer.compare(bytes, outputs[0] as Uint8Array) === 0));
});

test("a row's result does not depend on what else is in the batch, to the bit", async () => {
  const f = jit(chain, { backend: createBackend("native") });
  const whole = await f(...square);
  for (const rows of [1, 5, 17]) {
    const some = await f(NdArray.float32([rows, 48], square[0].data.slice(0, rows * 48) as Float32Array), square[1]);
    assert.deepEqual(some.data, whole.data.slice(0, rows * 48));
  }
});

test("programs without work, without outputs and with empty arrays run", async () => {
  const backend = createBackend("native");
  const x = NdArray.float32([3], [1, 2, 3]);
  const { data } = x;
  const same = await jit((t: Tensor) => t, { backend, donate: [0] })(x);
  assert.equal(same.data.buffer, data.buffer);
  assert.deepEqual(await jit(() => ({}), { backend })(), {});
  assert.equal((await jit((t: Tensor) => tanh(t), { backend })(NdArray.zeros("float32", [0, 3]))).size, 0);
  assert.equal((await jit(() => 7, { backend })()).item(), 7);
});

test("a profile names kernels and scopes", async () => {
  const compiled = jit(toyStep(small), { backend: createBackend("native") }).compile(...toySpecs(small));
  compiled.executable.startProfile?.();
  await compiled.run(...toyArguments(small));
  await compiled.run(...toyArguments(small));
  const profile = compiled.executable.profile?.() ?? [];
  assert.equal(profile.length, compiled.stats.instructions);
  assert.ok(profile.every(({ calls, seconds }) => calls === 2 && seconds >= 0));
  assert.ok(profile.some(({ label, kernel }) => kernel === "matmul" && label === "h.1: matmul"));
  assert.equal(
    profile.reduce((sum, { flops }) => sum + flops, 0),
    compiled.stats.flops,
  );
  assert.ok(profile.every(({ lastStart }, i) => i === 0 || lastStart >= (profile[i - 1]?.lastStart as number)));
});

test("a profile says what a call multiplies and moves", async () => {
  const backend = createBackend("native");
  const product = jit((a: Tensor, b: Tensor) => matmul(a, b, { transposeB: true }), { backend }).compile(
    { shape: [3, 5], dtype: "float32" },
    { shape: [7, 5], dtype: "bfloat16" },
  );
  const [entry] = product.executable.profile?.() ?? [];
  assert.ok(entry !== undefined);
  assert.deepEqual([entry.flops, entry.bytes], [2 * 3 * 5 * 7, 4 * 15 + 2 * 35 + 4 * 21]);
  assert.equal(entry.shapes, "3x5 · 5x7ᵀ");
  const lookup = jit((table: Tensor, ids: Tensor) => gather(table, ids), { backend }).compile(
    { shape: [1000, 8], dtype: "float32" },
    { shape: [2], dtype: "int32" },
  );
  const [rows] = lookup.executable.profile?.() ?? [];
  assert.deepEqual([rows?.flops, rows?.bytes], [0, 4 * 2 + 2 * 4 * 2 * 8], "only the rows that are read");
});

test("a failing kernel rejects with its scope and reason, and the next run works", async () => {
  const f = jit((table: Tensor, ids: Tensor) => add(gather(table, ids), 1), { backend: createBackend("native") });
  const table = NdArray.float32([2, 1], [10, 20]);
  await assert.rejects(f(table, NdArray.int32([1], [7])), { name: "PlinthError", message: /^gather: .*7/ });
  assert.deepEqual([...(await f(table, NdArray.int32([1], [1]))).data], [21]);
});

test("an instruction set that is unknown, missing or beyond the CPU is refused", () => {
  assert.throws(
    () => loadNative("avx513"),
    /PLINTH_ISA: "avx513" is not an instruction set \(did you mean "avx512"\?\). Fix: use one of baseline/,
  );
  const foreign = process.arch === "arm64" ? "avx2" : "neon";
  assert.throws(() => loadNative(foreign), /PLINTH_ISA: this CPU has no .*, which (avx2|neon) needs. Fix: unset it/);
  for (const variant of builtVariants()) {
    const { native } = hostInfo();
    assert.ok("isa" in native);
    const needed = { avx2: "avx2", avx512: "avx512f", avx512bf16: "avx512_bf16", neon: "neon" }[variant];
    if (needed === undefined || native.cpuFeatures.includes(needed)) assert.equal(loadNative(variant).isa(), variant);
  }
});

test("a wrong number of threads is refused, not ignored", () => {
  const script = `
    const { jit, NdArray, add } = await import(${JSON.stringify(engine)});
    await jit((x) => add(x, 1))(NdArray.scalar(1)).catch((error) => console.log(error.name, error.message));`;
  const run = (threads: string) =>
    spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
      env: { ...process.env, PLINTH_THREADS: threads },
    });
  assert.match(
    run("many").stdout,
    /^PlinthError PLINTH_THREADS: expected a whole number from 1 to .*"many". Fix: unset it/,
  );
  assert.equal(run("2").stdout, "");
});

test("arrays of another shape than compiled for are refused", async () => {
  const compiled = jit((x: Tensor) => add(x, 1), { backend: createBackend("native") }).compile({
    shape: [2],
    dtype: "float32",
  });
  await assert.rejects(
    compiled.executable.run([NdArray.float32([1], [1])]),
    /run: expected float32\[2\] for x, got float32\[1\]/,
  );
  await assert.rejects(compiled.executable.run([]), /run: expected 1 arrays, got 0/);
});

for (const [engine, running] of [
  ["wasm", "WebAssembly, on one thread and several times slower"],
  ["reference", "the slow reference backend"],
] as const) {
  test(`without a native build the ${engine} backend runs, after one line of warning`, () => {
    // A copy of the compiled engine in a package without native files.
    const folder = mkdtempSync(join(tmpdir(), "plinth-"));
    try {
      const sources = join(import.meta.dirname, "..", "..", "src");
      for (const part of ["base", "engine"])
        cpSync(join(sources, part), join(folder, "src", part), { recursive: true });
      if (engine === "wasm") cpSync(join(packageRoot(), "wasm"), join(folder, "wasm"), { recursive: true });
      writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "plinth", type: "module", version: "0.0.0" }));
      const script = `
        import { defaultBackend, hostInfo, jit, NdArray, add } from "./src/engine/index.js";
        const f = jit((x) => add(x, 1));
        await f(NdArray.scalar(1));
        const out = await f(NdArray.scalar(41));
        console.log(defaultBackend().name, out.item(), hostInfo().native.missing !== undefined);`;
      const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], { cwd: folder, encoding: "utf8" });
      assert.equal(run.stdout, `${engine} 42 true\n`, run.stderr);
      const missing =
        /^plinth: the native engine \(plinth-baseline\.node\) is not built\. Fix: .*npm run build:native\. /;
      assert.match(run.stderr, missing);
      assert.equal(run.stderr.replace(missing, ""), `Running on ${running}.\n`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
