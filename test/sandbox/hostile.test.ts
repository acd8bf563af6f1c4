import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Program, runProgram, sandboxIsolation } from "../../src/sandbox/index.ts";

// Programs that do harm. Each must end as said, and leave nothing behind.
const isolated = sandboxIsolation().mechanism !== "none";
const skip = isolated ? false : "this machine lets users make no namespaces and has no bubblewrap";
const limits = { wallSeconds: 2, cpuSeconds: 1, memoryBytes: 256 * 2 ** 20, processes: 24, outputBytes: 100_000 };
const python = (source: string, tests = "assert True"): Program => ({ language: "python", source, tests });
const run = (program: Program, changes = {}) => runProgram(program, { limits: { ...limits, ...changes } });

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-hostile-"));
  process.env["TMPDIR"] = folder; // the sandboxes of these tests and no others
});
after(() => rm(folder, { recursive: true, force: true }));

const ends: readonly [name: string, source: string, outcome: string, reason: RegExp][] = [
  ["loops for ever", "while True: pass", "time", /processor time|longer than/],
  ["sleeps for ever", "import time; time.sleep(1000)", "time", /longer than 2 s/],
  ["allocates without bound", "x = []\nwhile True: x.append(bytearray(10**7))", "memory", /more than 256 MB/],
  [
    "allocates shared memory in many processes",
    "import mmap, os, time\nfor _ in range(3): os.fork()\nm = mmap.mmap(-1, 2**27)\nfor i in range(0, 2**27, 4096): m[i] = 1\ntime.sleep(9)",
    "memory",
    /more than 256 MB/,
  ],
  ["writes without end", "while True: print('x' * 1000)", "output", /more than 100000 bytes/],
  ["writes to standard error without end", "import os\nwhile True: os.write(2, b'y' * 1000)", "output", /output/],
  ["exits before its tests", "import os; os._exit(0)", "failed", /before its tests/],
  ["exits politely before its tests", "import sys; sys.exit(0)", "failed", /before its tests/],
  [
    "prints what a passing one prints",
    "print('passed'); import os; os.write(4, b'defined\\npassed'); os._exit(0)",
    "failed",
    /before its tests/,
  ],
  [
    "puts something else in place of what runs the tests",
    "import builtins, os\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a: None\nos._exit = print",
    "failed",
    /AssertionError/,
  ],
  ["closes all it has", "import os\nfor fd in range(100):\n  try: os.close(fd)\n  except OSError: pass", "failed", /./],
  ["kills what it can", "import os, signal\nos.kill(1, 9)\nos.kill(-1, 9)", "failed", /./],
  ["kills its group", "import os\nos.killpg(0, 9)", "failed", /./],
  ["recurses for ever", "def f(): return f()\nf()", "failed", /Recursion/],
  ["crashes", "import ctypes; ctypes.string_at(0)", "failed", /./],
];
for (const [name, source, outcome, reason] of ends) {
  test(`a program that ${name}`, { skip }, async () => {
    const result = await run(python(source, "assert False"));
    assert.equal(result.outcome, outcome, `${result.reason}: ${result.stderr}`);
    assert.match(result.reason ?? "", reason);
    assert.ok(result.stdout.length + result.stderr.length <= limits.outputBytes);
  });
}

test("a fork bomb stays small and is gone afterwards", { skip }, async () => {
  const bomb = await run(python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"));
  assert.notEqual(bomb.outcome, "passed");
  // the shell may give up when it can fork no more, and the program go on: what matters is that nothing stays
  await run(python("import os\nos.system('f() { f | f & }; f; sleep 5')"));
  await noProcessWith(folder);
});

test("a program that ignores signals and makes a daemon dies with it", { skip }, async () => {
  const mark = `daemon${process.pid}x${Date.now()}`;
  const source = `
import os, signal, time
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU): signal.signal(s, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["${mark}", "1000"])
    os._exit(0)
time.sleep(0.3)`;
  assert.equal((await run(python(source))).outcome, "passed");
  await noProcessWith(mark);
  const stubborn = await run(python(`${source}\nwhile True: pass`));
  assert.equal(stubborn.outcome, "time", stubborn.reason);
  await noProcessWith(mark);
});

test("files outside of the temporary folder can be neither written nor deleted, and most not even seen", {
  skip,
}, async () => {
  const secret = join(folder, "answers.txt");
  await writeFile(secret, "42");
  const source = `
import os, pathlib, shutil
done = []
def attempt(name, action):
    try:
        action()
        done.append(name)
    except OSError: pass
attempt("read", lambda: open(${JSON.stringify(secret)}).read())
attempt("home", lambda: open(${JSON.stringify(join(homedir(), ".bashrc"))}).read())
attempt("here", lambda: open(${JSON.stringify(import.meta.filename)}).read())
attempt("proc", lambda: open("/proc/1/environ").read())
for place in ("/", "/usr", "/usr/lib", "/etc", "/dev", "/var/tmp", os.path.dirname(os.__file__)):
    attempt(f"write {place}", lambda: open(os.path.join(place, "x"), "w"))
attempt("delete", lambda: os.remove("/usr/bin/env"))
attempt("chmod", lambda: os.chmod("/usr/bin/env", 0o777))
os.system("mount -o remount,rw / 2>/dev/null; mount -t tmpfs x /usr 2>/dev/null; unshare -Ur mount -t tmpfs x /usr 2>/dev/null")
attempt("write after mounting", lambda: open("/usr/x", "w"))
attempt("chroot", lambda: os.chroot("/tmp"))
attempt("root", lambda: os.setuid(0) if os.getuid() != 0 else open("/etc/x", "w"))
shutil.rmtree("/usr/local", ignore_errors=True)
pathlib.Path("/tmp/mine").write_text("x")
assert pathlib.Path("/tmp/mine").read_text() == "x"
os.remove("/tmp/mine")
assert done == [], done`;
  const result = await run(python(source));
  assert.equal(result.outcome, "passed", result.stderr);
  assert.ok(existsSync(secret) && existsSync("/usr/bin/env"));
});

test("the temporary folder has a limit, and is gone afterwards", { skip }, async () => {
  const full = await run(python("open('/tmp/x', 'wb').write(bytes(50_000_000))"), { fileBytes: 10_000_000 });
  assert.match(full.reason ?? "", /No space left|File too large/);
  const many = await run(python("for i in range(10_000): open(f'/tmp/{i}', 'w')"));
  assert.match(many.reason ?? "", /No space left/);
  assert.deepEqual(
    (await readdir(tmpdir())).filter((name) => name.startsWith("plinth-sandbox-")),
    [],
  );
});

test("there is no network, not even this machine's own", { skip }, async () => {
  let visits = 0;
  const server = createServer((socket) => {
    visits++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const result = await run(
    python(`
import socket
for address in (("127.0.0.1", ${port}), ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, 1)
        raise SystemExit("connected")
    except OSError: pass
try:
    s = socket.socket(socket.AF_UNIX); s.connect("/var/run/docker.sock")
    raise SystemExit("connected")
except OSError: pass`),
  );
  server.close();
  assert.equal(result.outcome, "passed", result.stderr);
  assert.equal(visits, 0);
});

test("hostile JavaScript", { skip }, async () => {
  const js = (source: string, changes = {}) =>
    run({ language: "javascript", source, tests: "if (2 + 2 !== 4) throw new Error()" }, changes);
  assert.equal((await js("for (;;) ;")).outcome, "time");
  assert.equal((await js("const x = []; for (;;) x.push(new Array(1e6).fill(1))")).outcome, "memory");
  assert.equal((await js("const x = []; for (;;) x.push(Buffer.alloc(1e7, 1))")).outcome, "memory");
  assert.match((await js("process.exit(0)")).reason ?? "", /before its tests/);
  assert.match((await js("process.reallyExit(0)")).reason ?? "", /before its tests/);
  const patched = "require('vm').Script.prototype.runInThisContext = () => {}";
  assert.match(
    (await run({ language: "javascript", source: patched, tests: "throw new Error('ran')" })).reason ?? "",
    /ran|at /,
  );
  assert.equal((await js("require('fs').writeFileSync('/usr/x', '')")).outcome, "failed");
  assert.equal((await js("for (;;) require('fs').writeSync(1, 'x'.repeat(1000))")).outcome, "output");
  const bomb = await js(
    "const { spawn } = require('child_process'); for (let i = 0; i < 50; i++) spawn('sleep', ['9'])",
  );
  assert.notEqual(bomb.outcome, "passed");
});

/** Waits a moment for the kernel, then asserts that no process has this in its command line. */
async function noProcessWith(mark: string): Promise<void> {
  const find = async () => {
    const found: string[] = [];
    for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
      const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
      if (words.some((word) => word.startsWith(mark))) found.push(pid);
    }
    return found;
  };
  for (let i = 0; i < 20 && (await find()).length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(await find(), []);
}
