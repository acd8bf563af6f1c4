import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { loadNative } from "../../src/engine/backends/load-native.ts";
import { WasmEngine } from "../../src/engine/backends/wasm-engine.ts";
import { loadWasm } from "../../src/engine/backends/wasm-host.ts";
import { encodeProgram } from "../../src/engine/compile/program-image.ts";
import { add, createBackend, gather, jit, matmul, NdArray, type Tensor, tanh } from "../../src/engine/index.ts";
import { noise } from "../native/run-kernel.ts";

const backend = createBackend("wasm");

test("the committed module is of the current sources and has every kernel", () => {
  const check = spawnSync(process.execPath, [join(packageRoot(), "scripts", "build-wasm.mjs"), "--check"], {
    encoding: "utf8",
  });
  assert.equal(check.status, 0, check.stderr);
  assert.deepEqual(new WasmEngine(loadWasm()).kernels(), loadNative().kernels());
});

test("a refused value fails the run with the native engine's message, and the engine goes on", async () => {
  const table = NdArray.float32([2, 2], [1, 2, 3, 4]);
  const lookUp = jit((x: Tensor, ids: Tensor) => gather(x, ids), { backend });
  const native = jit((x: Tensor, ids: Tensor) => gather(x, ids), { backend: createBackend("native") });
  const reason = await native(table, NdArray.int32([1], [7])).catch((error: Error) => error.message);
  assert.match(String(reason), /gather: id 7 at position 0 is outside/);
  for (let i = 0; i < 3; i++) {
    await assert.rejects(lookUp(table, NdArray.int32([1], [7])), { name: "PlinthError", message: String(reason) });
    assert.deepEqual([...(await lookUp(table, NdArray.int32([1], [1]))).data], [3, 4]);
  }
});

test("a program that does not fit in 32 bits is refused with the numbers", () => {
  const f = jit((x: Tensor) => add(matmul(x, x, { transposeB: true }), 1), { backend });
  assert.throws(() => f.compile({ dtype: "float32", shape: [40_000, 1] }), /out of memory before start: .*(GiB|MiB)/);
});

test("bad images are refused, not run", () => {
  const engine = new WasmEngine(loadWasm());
  const operand = { storage: 1, index: 0, byteOffset: 0, dtype: 0, shape: [4], strides: [1] };
  const spec = {
    arenaBytes: 0,
    inputs: [{ bytes: 16 }],
    outputs: [{ bytes: 16 }],
    constants: [new Float32Array([1, 2, 3])],
    instructions: [
      {
        kernel: "copy",
        label: "scope.copy",
        inputs: [operand],
        outputs: [{ ...operand, storage: 2 }],
        ints: [],
        floats: [],
        workspaceOffset: 0,
        workspaceBytes: 0,
      },
    ],
  };
  const image = encodeProgram(spec);
  const program = engine.createProgram(image);
  const given = Float32Array.from([1, 2, 3, 4]);
  const [copied] = engine.run(program, [new Uint8Array(given.buffer)], spec.outputs);
  assert.deepEqual(new Float32Array(copied?.buffer ?? new ArrayBuffer(0)), given);
  engine.releaseProgram(program);
  // Cut anywhere, it ends too early; with one byte changed it is refused or still a program, never a crash.
  for (let size = 0; size < image.length; size += 8) {
    assert.throws(() => engine.createProgram(image.slice(0, size)), /program image: .*the bytes end|no program/);
  }
  for (let at = 0; at < image.length; at++) {
    const broken = image.slice();
    broken[at] = (broken[at] as number) ^ 0x55;
    try {
      engine.releaseProgram(engine.createProgram(broken));
    } catch (error) {
      assert.equal((error as Error).constructor.name, "WasmEngineError", (error as Error).message);
    }
  }
});

test("a run leaves the event loop free, and its kernels can be timed", async () => {
  const n = 700;
  const f = jit((x: Tensor) => tanh(matmul(matmul(x, x), x)), { backend });
  const compiled = f.compile({ dtype: "float32", shape: [n, n] });
  compiled.executable.startProfile?.();
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await compiled.run(NdArray.float32([n, n], noise(n * n)));
  clearInterval(timer);
  // A run on this thread would let it turn once or twice, before and after.
  assert.ok(turns > 8, `the event loop turned ${turns} times`);
  const profile = compiled.executable.profile?.() ?? [];
  assert.equal(profile.length, compiled.stats.instructions);
  assert.ok(profile.every((entry) => entry.calls === 1 && entry.seconds > 0 && entry.kernel !== ""));
});
