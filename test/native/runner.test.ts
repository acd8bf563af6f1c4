import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { type ProgramSpec, storageCode } from "../../src/engine/compile/program.ts";
import { rowMajorStrides, type Shape } from "../../src/engine/ir/shape.ts";
import { addonPath, addons, runKernel, specOf, value } from "./addon.ts";

const execute = promisify(execFile);
const addon = addons().at(-1) as ReturnType<typeof addons>[number];
const path = addonPath(addon.isa());

function f32(
  shape: Shape,
  storage: number,
  byteOffset = 0,
  index = 0,
): ProgramSpec["instructions"][number]["inputs"][number] {
  return { storage, index, byteOffset, dtype: 0, shape, strides: rowMajorStrides(shape) };
}

/** input -> arena -> output by two copies, plus a constant added to the end by concat. */
function chain(): ProgramSpec {
  const { arena, input, output, constant } = storageCode;
  const common = { ints: [], floats: [], workspaceOffset: 64, workspaceBytes: 64 };
  return {
    arenaBytes: 128,
    inputs: [{ bytes: 12 }],
    outputs: [{ bytes: 20 }],
    constants: [Float32Array.of(0, 7, 8).subarray(1)],
    instructions: [
      { ...common, kernel: "copy", inputs: [f32([3], input)], outputs: [f32([3], arena, 64)], label: "first" },
      {
        ...common,
        kernel: "concat",
        inputs: [f32([3], arena, 64), f32([2], constant)],
        outputs: [f32([5], output)],
        ints: [0],
        label: "second",
      },
    ],
  };
}

/** A program that multiplies [n,n] matrices `times` times. */
function busy(n: number, times: number): ProgramSpec {
  const one = { dtype: "float32", shape: [n, n] } as const;
  const spec = specOf(
    "matmul",
    [
      { ...one, data: new Float32Array(n * n) },
      { ...one, data: new Float32Array(n * n) },
    ],
    [one],
  );
  return {
    ...spec,
    instructions: Array.from({ length: times }, () => spec.instructions[0] as ProgramSpec["instructions"][number]),
  };
}

describe("programs", () => {
  test("pass values through arena and constants, run after run", async () => {
    const program = addon.createProgram(chain());
    for (const x of [1, 100]) {
      const out = new Float32Array(5);
      await addon.run(program, [Float32Array.of(x, x + 1, x + 2)], [out]);
      assert.deepEqual([...out], [x, x + 1, x + 2, 7, 8]);
    }
  });

  test("queue when several run at once", async () => {
    const program = addon.createProgram(chain());
    const outs = Array.from({ length: 50 }, () => new Float32Array(5));
    await Promise.all(outs.map((out, i) => addon.run(program, [Float32Array.of(i, i, i)], [out])));
    for (const [i, out] of outs.entries()) assert.deepEqual([...out], [i, i, i, 7, 8]);
  });

  test("report times by instruction while profiled", async () => {
    const program = addon.createProgram(chain());
    const out = new Float32Array(5);
    addon.profile(program, true);
    await addon.run(program, [new Float32Array(3)], [out]);
    await addon.run(program, [new Float32Array(3)], [out]);
    addon.profile(program, false);
    await addon.run(program, [new Float32Array(3)], [out]);
    const result = addon.profileResult(program);
    assert.deepEqual(
      result.map(({ label, kernel, calls }) => ({ label, kernel, calls })),
      [
        { label: "first", kernel: "copy", calls: 2 },
        { label: "second", kernel: "concat", calls: 2 },
      ],
    );
    assert.ok(result.every((entry) => entry.seconds > entry.lastSeconds && entry.lastSeconds > 0));
    assert.equal(result[0]?.lastStart, 0);
    assert.ok((result[1]?.lastStart ?? 0) >= (result[0]?.lastSeconds ?? 1), "the second begins after the first ends");
  });

  test("accept views at an offset in a larger buffer", async () => {
    const buffer = new Float32Array([9, 9, 1, 2, 3, 9, 9, 9, 9, 9, 9, 9]);
    await addon.run(addon.createProgram(chain()), [buffer.subarray(2, 5)], [buffer.subarray(6, 11)]);
    assert.deepEqual([...buffer], [9, 9, 1, 2, 3, 9, 1, 2, 3, 7, 8, 9]);
  });
});

describe("createProgram", () => {
  type Step = ProgramSpec["instructions"][number];
  /** One copy from the input to the arena, with changes. */
  const edit = (changes: Partial<Step>): ProgramSpec => {
    const spec = chain();
    return { ...spec, instructions: [{ ...(spec.instructions[0] as Step), ...changes }] };
  };
  const cases: readonly (readonly [string, ProgramSpec, RegExp])[] = [
    [
      "an unknown kernel",
      edit({ kernel: "frobnicate" }),
      /createProgram: first \(frobnicate\): no kernel of this name. Fix:/,
    ],
    [
      "an operand beyond its storage",
      edit({ inputs: [f32([4], storageCode.input)] }),
      /first \(copy\): input 0 reaches bytes 0 to 16 of input 0, which has 12/,
    ],
    [
      "an operand before its storage",
      edit({ outputs: [f32([3], storageCode.arena, -4)] }),
      /output 0 reaches bytes -4 to 8 of arena 0, which has 128/,
    ],
    [
      "strides that lead outside",
      edit({ inputs: [{ ...f32([2], storageCode.input), strides: [3] }] }),
      /input 0 reaches bytes 0 to 16 of input 0/,
    ],
    [
      "an input that is not there",
      edit({ inputs: [f32([3], storageCode.input, 0, 1)] }),
      /input 0 refers to input 1, but there are 1/,
    ],
    ["nine axes", edit({ inputs: [f32([1, 1, 1, 1, 1, 1, 1, 1, 3], storageCode.input)] }), /at most 8 axes, got 9/],
    [
      "a workspace outside the arena",
      edit({ workspaceBytes: 128 }),
      /workspace \[64, \+128\) is misaligned or outside the arena of 128 bytes/,
    ],
    [
      "an output that is not row-major",
      edit({ outputs: [{ ...f32([3], storageCode.arena), strides: [2] }] }),
      /output 0 is not row-major/,
    ],
    [
      "an element type that does not exist",
      edit({ inputs: [{ ...f32([3], storageCode.input), dtype: 9 }] }),
      /operand.dtype: expected a code of 0 to 4/,
    ],
  ];
  for (const [name, spec, message] of cases) {
    test(`refuses ${name}`, () => assert.throws(() => addon.createProgram(spec), message));
  }
});

describe("run", () => {
  test("refuses the wrong number or size of buffers and foreign programs", () => {
    const program = addon.createProgram(chain());
    assert.throws(() => addon.run(program, [], [new Float32Array(5)]), /run: expected 1 inputs, got 0/);
    assert.throws(
      () => addon.run(program, [new Float32Array(2)], [new Float32Array(5)]),
      /run: expected 12 bytes for input 0, got 8/,
    );
    assert.throws(() => addon.run({}, [], []), /run: expected a program made by createProgram/);
  });

  test("rejects with the label of the instruction that failed, and later runs go on", async () => {
    const spec = specOf("concat", [value("float32", [3], [1, 2, 3])], [{ dtype: "float32", shape: [4] }], {
      ints: [0],
    });
    await assert.rejects(
      addon.run(addon.createProgram(spec), [new Float32Array(3)], [new Float32Array(4)]),
      /^Error: test.concat: concat: the inputs are shorter than the output$/,
    );
    const [copy] = await runKernel(addon, "copy", [value("float32", [2], [1, 2])], [{ dtype: "float32", shape: [2] }]);
    assert.deepEqual(copy, Float32Array.of(1, 2));
  });

  test("keeps the event loop free", async () => {
    const program = addon.createProgram(busy(512, 60));
    const buffers = [new Float32Array(512 * 512), new Float32Array(512 * 512), new Float32Array(512 * 512)] as const;
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await addon.run(program, [buffers[0], buffers[1]], [buffers[2]]);
    clearInterval(timer);
    assert.ok(ticks >= 5, `a 1 ms timer ran ${ticks} times during some 100 ms of products`);
  });
});

describe("threads", () => {
  test("PLINTH_THREADS sets their number and must be one", async () => {
    const ask = async (threads: string): Promise<string> => {
      const { stdout } = await execute(process.execPath, ["-p", `require(${JSON.stringify(path)}).threads()`], {
        env: { ...process.env, PLINTH_THREADS: threads },
      });
      return stdout.trim();
    };
    assert.equal(await ask("3"), "3");
    await assert.rejects(ask("many"), /PLINTH_THREADS: expected a whole number from 1 to 1024, got "many"/);
    await assert.rejects(ask("0"), /PLINTH_THREADS/);
  });

  test("setThreads refuses nonsense and a running engine", async () => {
    assert.throws(() => addon.setThreads(0), /setThreads: expected 1 to 1024, got 0/);
    assert.throws(() => addon.setThreads(1.5), /whole number/);
    const running = addon.run(
      addon.createProgram(busy(256, 20)),
      [new Float32Array(65536), new Float32Array(65536)],
      [new Float32Array(65536)],
    );
    assert.throws(() => addon.setThreads(1), /setThreads: a program is running/);
    await running;
    addon.setThreads(2);
    assert.equal(addon.threads(), 2);
  });
});

describe("the end of an environment", () => {
  const script = (body: string): string => `
    const addon = require(${JSON.stringify(path)});
    const spec = ${JSON.stringify(busy(512, 1))};
    spec.instructions = Array(400).fill(spec.instructions[0]);
    const view = () => new Float32Array(512 * 512);
    const program = addon.createProgram(spec);
    const run = () => addon.run(program, [view(), view()], [view()]);
    ${body}`;

  test("process.exit during a run ends at once and cleanly", async () => {
    const { stdout } = await execute(
      process.execPath,
      ["-e", script("run(); run(); setTimeout(() => { console.log('leaving'); process.exit(0); }, 30);")],
      { timeout: 60_000 },
    );
    assert.equal(stdout.trim(), "leaving");
  });

  test("a pending run keeps the process alive, an idle engine does not", async () => {
    const { stdout } = await execute(process.execPath, ["-e", script("run().then(() => console.log('done'));")], {
      timeout: 60_000,
    });
    assert.equal(stdout.trim(), "done");
  });

  test("worker threads have engines of their own and may be stopped during a run", async () => {
    const finished = new Worker(
      script("run().then(() => require('node:worker_threads').parentPort.postMessage('done'));"),
      { eval: true },
    );
    const message = await new Promise((resolve, reject) => {
      finished.once("message", resolve);
      finished.once("error", reject);
    });
    assert.equal(message, "done");
    await finished.terminate();
    const stopped = new Worker(
      script("run(); run(); require('node:worker_threads').parentPort.postMessage('running');"),
      { eval: true },
    );
    await new Promise((resolve) => stopped.once("message", resolve));
    await stopped.terminate();
    const [copy] = await runKernel(addon, "copy", [value("float32", [2], [1, 2])], [{ dtype: "float32", shape: [2] }]);
    assert.deepEqual(copy, Float32Array.of(1, 2));
  });
});

describe("memory", () => {
  test("allocate gives zeroed memory", () => {
    const small = new Uint8Array(addon.allocate(1000));
    assert.equal(small.length, 1000);
    assert.ok(small.every((x) => x === 0));
    assert.equal(addon.allocate(0).byteLength, 0);
    assert.equal(addon.allocate(3 << 20).byteLength, 3 << 20);
    assert.throws(() => addon.allocate(-1), /allocate: expected a size, got -1/);
    assert.throws(() => addon.allocate(2 ** 46), /out of memory: cannot allocate 70368744177664 bytes/);
  });

  test("mapFile reads a file, and writing there leaves the file alone", () => {
    const folder = mkdtempSync(join(tmpdir(), "plinth-"));
    try {
      const file = join(folder, "ümlaut.bin");
      writeFileSync(file, Buffer.from("hello"));
      const mapped = new Uint8Array(addon.mapFile(file));
      assert.equal(Buffer.from(mapped).toString(), "hello");
      mapped[0] = 0x6a;
      assert.equal(Buffer.from(new Uint8Array(addon.mapFile(file))).toString(), "hello");
      writeFileSync(join(folder, "empty"), "");
      assert.equal(addon.mapFile(join(folder, "empty")).byteLength, 0);
      assert.throws(() => addon.mapFile(join(folder, "missing")), /missing: No such file or directory/);
      assert.throws(() => addon.mapFile(folder), /Is a directory/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test("measured limits are positive and features agree with the variant", () => {
  assert.ok(addon.fmaPeak(0.02, 1) > 0);
  assert.ok(addon.bandwidth(0.05, 2) > 0);
  assert.ok(addon.kernels().includes("matmul"));
  if (addon.isa().startsWith("avx512")) assert.ok(addon.cpuFeatures().includes("avx512f"));
});
