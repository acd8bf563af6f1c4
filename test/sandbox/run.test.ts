import assert from "node:assert/strict";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bubblewrap } from "../../src/sandbox/bubblewrap.ts";
import { chooseMechanism, probe } from "../../src/sandbox/detect.ts";
import { runProgram, sandboxIsolation } from "../../src/sandbox/index.ts";
import { namespaces, userNamespaces } from "../../src/sandbox/namespaces.ts";

const isolated = sandboxIsolation().mechanism !== "none";
const skip = isolated ? false : "this machine lets users make no namespaces and has no bubblewrap";

test("Python: source, then tests, in one scope, with input and output", { skip }, async () => {
  const right = await runProgram({
    language: "python",
    source:
      "def add(a, b):\n    return a + b\nprint(input(), 'é')\nif __name__ == '__main__': raise SystemExit('main')",
    tests: "assert add(2, 3) == 5\nprint('done')",
    stdin: "hello\n",
  });
  assert.deepEqual([right.outcome, right.reason, right.stdout], ["passed", undefined, "hello é\ndone\n"], right.stderr);
  assert.ok(right.isolation.network && right.isolation.files && right.isolation.processes);
  const wrong = await runProgram({
    language: "python",
    source: "def add(a, b): return a",
    tests: "assert add(2, 3) == 5",
  });
  assert.deepEqual([wrong.outcome, wrong.reason], ["failed", "AssertionError"]);
  const unreadable = await runProgram({ language: "python", source: "def (" });
  assert.match(unreadable.reason ?? "", /SyntaxError/);
});

test("JavaScript: scripts, modules, promises", { skip }, async () => {
  const run = (source: string, tests: string) => runProgram({ language: "javascript", source, tests });
  assert.equal((await run("const add = (a, b) => a + b", "require('assert').equal(add(2, 3), 5)")).outcome, "passed");
  const wrong = await run("const add = (a) => a", "require('assert').equal(add(2, 3), 5)");
  assert.equal(wrong.outcome, "failed");
  assert.match(wrong.stderr, /2 (!==|==) 5/);
  const module = "import { sep } from 'node:path';\nexport const f = () => sep;";
  assert.equal((await run(module, "if (f() !== '/') throw new Error()")).outcome, "passed");
  assert.equal((await run(module, "throw new Error('no')")).outcome, "failed");
  assert.equal(
    (await run("const f = async () => 1", "(async () => { if (await f() !== 1) throw 1 })()")).outcome,
    "passed",
  );
  assert.equal(
    (await run("const f = async () => 2", "(async () => { if (await f() !== 1) throw 1 })()")).outcome,
    "failed",
  );
  assert.equal((await run("const f = async () => 1", "if (await f() !== 1) throw 1")).outcome, "passed");
});

test("TypeScript: its types are taken away, enums and all", { skip }, async () => {
  const source =
    "enum Colour { red = 3 }\nconst twice = (x: number): number => x * 2 as number;\ninterface A { b: string }";
  const run = (source: string, tests: string) => runProgram({ language: "typescript", source, tests });
  assert.equal((await run(source, "if (twice(Colour.red as number) !== 6) throw new Error('no')")).outcome, "passed");
  const broken = await run("const x: = 3", "");
  assert.equal(broken.outcome, "failed");
  assert.match(broken.reason ?? "", /program\.ts:1: Unexpected token/);
});

test("without isolation a program is refused, and runs only when that is asked for", async () => {
  const detect = await import("../../src/sandbox/detect.ts");
  const restore = detect.overrideDetection({ mechanism: undefined, failures: ["user-namespaces: not permitted"] });
  try {
    assert.throws(() => chooseMechanism(false), {
      name: "PlinthError",
      message:
        /cannot be kept from this machine's network and files \(user-namespaces: not permitted\)\. Fix: install bubblewrap/,
    });
    await assert.rejects(runProgram({ language: "python", source: "" }), { name: "PlinthError" });
    const result = await runProgram(
      { language: "python", source: "x = 1", tests: "assert x == 1" },
      { allowUnsafe: true },
    );
    assert.deepEqual(result.isolation, { mechanism: "none", network: false, files: false, processes: false });
    assert.equal(result.outcome, "passed", result.stderr);
    const limits = { wallSeconds: 2 };
    const daemon = "import os, time\nif os.fork() == 0:\n  os.setsid(); time.sleep(3); os._exit(0)";
    const start = performance.now();
    await runProgram({ language: "python", source: daemon }, { allowUnsafe: true, limits });
    assert.ok(performance.now() - start < 2900, "did not wait for a process that escaped");
  } finally {
    restore();
  }
});

test("every mechanism that this machine has isolates", { skip }, async (t) => {
  const detect = await import("../../src/sandbox/detect.ts");
  for (const mechanism of [namespaces, userNamespaces, bubblewrap]) {
    const { mechanism: name } = mechanism.isolation;
    if (!mechanism.mayWork() || probe(mechanism) !== undefined) continue;
    await t.test(name, async () => {
      const restore = detect.overrideDetection({ mechanism, failures: [] });
      try {
        const source = `
import os, socket
def fails(action):
    try: action()
    except OSError: return True
assert fails(lambda: open("/usr/x", "w")) and fails(lambda: open("/x", "w"))
assert fails(lambda: socket.create_connection(("127.0.0.1", 22), 1))
assert fails(lambda: os.listdir("/home")) and fails(lambda: os.listdir("/proc/1"))
open("/tmp/x", "w").write("x")`;
        const result = await runProgram({ language: "python", source });
        assert.equal(result.outcome, "passed", result.stderr);
        assert.equal(result.isolation.mechanism, name);
        const bomb = "import os, time\nfor _ in range(1000): os.fork()";
        const { outcome } = await runProgram(
          { language: "python", source: bomb },
          { limits: { processes: 16, wallSeconds: 3 } },
        );
        assert.notEqual(outcome, "passed");
      } finally {
        restore();
      }
    });
  }
});

test("aborting ends the program; a missing interpreter and a bad limit are named", { skip }, async () => {
  const signal = AbortSignal.timeout(300);
  const start = performance.now();
  await assert.rejects(runProgram({ language: "python", source: "import time; time.sleep(60)" }, { signal }), {
    name: "TimeoutError",
  });
  assert.ok(performance.now() - start < 5000);
  await assert.rejects(runProgram({ language: "python", source: "" }, { python: "/no/python" }), {
    name: "PlinthError",
    message: /python programs cannot be run: \/no\/python: .*Fix: install Python 3/,
  });
  await assert.rejects(runProgram({ language: "python", source: "" }, { limits: { wallSeconds: 0 } }), {
    name: "PlinthError",
    message: /sandbox: wallSeconds is 0/,
  });
});

test("a mechanism that does not work says why", () => {
  const folder = mkdtempSync(join(tmpdir(), "plinth-probe-"));
  rmdirSync(folder);
  const absent = { ...bubblewrap, wrap: () => ["no-such-program"] };
  assert.match(probe(absent) ?? "", /no-such-program is not installed/);
  assert.match(probe({ ...bubblewrap, wrap: () => ["sh", "-c", "echo denied >&2; exit 1"] }) ?? "", /denied/);
});
