/**
 * What runs inside of the sandbox, before and after the program. It reads three texts from descriptor 3, each after a
 * line with its length in bytes: the program, its tests, and a password. The tests are sent once descriptor 4 has said
 * "defined", and the password is written to descriptor 4 when they have run through: a program that ends early, or
 * prints what a passing one would print, has not passed. What they call is taken hold of before the program runs, so that it
 * cannot put something else in its place.
 */
export const pythonPrelude = `
def __sandbox():
    import os, sys
    run, read, leave, number, flush = exec, compile, os._exit, int, sys.stdout.flush
    inbox, outbox = os.fdopen(3, "rb"), os.fdopen(4, "wb", 0)
    receive = lambda: inbox.read(number(inbox.readline())).decode()
    scope = {"__name__": "__program__"}
    run(read(receive(), "program.py", "exec"), scope)
    outbox.write(b"defined\\n")
    run(read(receive(), "tests.py", "exec"), scope)
    flush()
    outbox.write(receive().encode())
    leave(0)
__sandbox()
`;

/** The same for JavaScript. A program with import or export statements runs as one module together with its tests. */
export const javascriptPrelude = `
const { readSync, writeSync } = require("node:fs");
const { Script } = require("node:vm");
const exit = process.reallyExit.bind(process, 0);
const run = Function.prototype.call.bind(Script.prototype.runInThisContext);
globalThis.require = require("node:module").createRequire("/tmp/program.js");
function read(isEnd) {
  const bytes = [];
  const buffer = Buffer.alloc(1);
  while (!isEnd(bytes) && readSync(3, buffer, 0, 1) === 1) bytes.push(buffer[0]);
  return Buffer.from(bytes);
}
function receive() {
  const size = Number(read((bytes) => bytes.at(-1) === 10).toString());
  const text = Buffer.alloc(size);
  for (let at = 0; at < size; ) at += readSync(3, text, at, size - at);
  return text.toString();
}
function compile(text, filename) {
  try {
    return new Script(text, { filename });
  } catch {
    return undefined; // a module, or wrong: importing it says which
  }
}
async function main() {
  const source = receive();
  const script = compile(source, "program.js");
  if (script) run(script);
  writeSync(4, "defined\\n");
  const tests = receive();
  const testScript = script && compile(tests, "tests.js");
  if (testScript) await run(testScript);
  else if (script) await importText(tests);
  else await importText(source + "\\n" + tests);
  writeSync(4, receive());
  exit();
}
const importText = (text) => import("data:text/javascript;base64," + Buffer.from(text).toString("base64"));
main().catch((error) => {
  console.error(error?.stack ?? error);
  process.exit(1);
});
`;
