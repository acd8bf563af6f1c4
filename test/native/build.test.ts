import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { addonPath, addons } from "./addon.ts";

const root = packageRoot();
const plainest = addons()[0]?.isa() as string;
const platform = `${process.platform}-${process.arch}`;
const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A package like ours in a folder of its own, with an engine that compiles in a moment. */
function smallPackage(): string {
  const folder = mkdtempSync(join(tmpdir(), "plinth-build-"));
  folders.push(folder);
  for (const name of ["scripts", "binding.gyp", "package.json"])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  mkdirSync(join(folder, "native", "kernels"), { recursive: true });
  copyFileSync(join(root, "native", "variant.gypi"), join(folder, "native", "variant.gypi"));
  const native = (name: string, text: string): void => writeFileSync(join(folder, "native", name), text);
  native("limits.cc", "\n");
  native(
    "kernels/one.cc",
    '#include <stdexcept>\nint one() { try { throw std::runtime_error("x"); } catch (const std::exception&) { return 1; } }\n',
  );
  native("small_kernels.cc", '#include "kernels/two.cc"\n');
  native("kernels/two.cc", "int two() { return 2; }\n");
  native("memory.cc", "int three() { return 3; }\n");
  native(
    "addon_entry.cc",
    `#include <node_api.h>
     int one(); int two(); int three();
     static napi_value isa(napi_env env, napi_callback_info) {
       napi_value value;
       napi_create_int32(env, one() + two() + three(), &value);
       return value;
     }
     NAPI_MODULE_INIT() {
       napi_value function;
       napi_create_function(env, "isa", NAPI_AUTO_LENGTH, isa, nullptr, &function);
       napi_set_named_property(env, exports, "isa", function);
       return exports;
     }\n`,
  );
  return folder;
}

interface BuildOptions {
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly node?: string;
}

function build(
  folder: string,
  { args = [], env = {}, node = process.execPath }: BuildOptions = {},
): { status: number | null; output: string } {
  const inherited = { ...process.env };
  delete inherited["PLINTH_SKIP_NATIVE"];
  const result = spawnSync(node, [join(folder, "scripts", "build-native.mjs"), ...args], {
    encoding: "utf8",
    env: { ...inherited, ...env },
    cwd: tmpdir(),
  });
  return { status: result.status, output: `${result.stdout}${result.stderr}` };
}

const noTools = { PATH: "", CXX: "", npm_config_node_gyp: "", npm_execpath: "" };

function haveCompiler(): boolean {
  return ["make", "c++", "python3"].every((tool) => spawnSync(tool, ["--version"]).status === 0);
}

describe("building the native engine", () => {
  test("without a compiler: one line that says what to install, and success", () => {
    const { status, output } = build(smallPackage(), { env: noTools });
    assert.equal(status, 0);
    assert.match(
      output,
      /^plinth: no native engine: a C\+\+20 compiler and make and python3 .*not found, and no prebuilt for .*Fix: .*npm rebuild plinth\.\n$/,
    );
    assert.equal(output.trim().split("\n").length, 1);
  });

  test("PLINTH_SKIP_NATIVE=1 builds nothing", () => {
    const folder = smallPackage();
    const { status, output } = build(folder, { env: { PLINTH_SKIP_NATIVE: "1" } });
    assert.equal(status, 0);
    assert.match(output, /is not built/);
    assert.ok(!existsSync(join(folder, "build")));
  });

  test("a prebuilt that loads is used; --force and a broken one are not", () => {
    const folder = smallPackage();
    const prebuilds = join(folder, "prebuilds", platform);
    mkdirSync(prebuilds, { recursive: true });
    const file = join(prebuilds, `plinth-${plainest}.node`);
    copyFileSync(addonPath(plainest), file);
    const used = build(folder, { env: noTools });
    assert.match(used.output, /using the prebuilt native engine in .*prebuilds/);
    assert.ok(!existsSync(join(folder, "build")));
    assert.match(build(folder, { env: noTools, args: ["--force"] }).output, /no native engine/);
    rmSync(file);
    writeFileSync(file, "not an addon");
    assert.match(build(folder, { env: noTools }).output, /no native engine/);
  });

  test("compiles every variant where Node has no headers beside it and nodedir points nowhere", (t) => {
    if (!haveCompiler()) return t.skip("no compiler here");
    const folder = smallPackage();
    // A Node on its own, as `npx -p node@24` brings it.
    const node = join(folder, "bin", "node");
    mkdirSync(join(folder, "bin"));
    copyFileSync(process.execPath, node);
    const { status, output } = build(folder, { node, env: { npm_config_nodedir: "/nowhere" } });
    assert.equal(status, 0, output);
    assert.match(output, /plinth: built .*plinth-/);
    assert.ok(existsSync(join(folder, "build", "node-headers", "include", "node", "node_api.h")));
    const addon = createRequire(import.meta.url)(join(folder, "build", "Release", `plinth-${plainest}.node`)) as {
      isa(): number;
    };
    assert.equal(addon.isa(), 6);
    const again = build(folder, { node });
    assert.equal(again.status, 0, again.output);
  });

  test("a file that does not compile fails with the compiler's message", (t) => {
    if (!haveCompiler()) return t.skip("no compiler here");
    const folder = smallPackage();
    writeFileSync(join(folder, "native", "memory.cc"), "#error broken on purpose\n");
    const { status, output } = build(folder);
    assert.equal(status, 1);
    assert.match(output, /broken on purpose/);
    assert.match(output, /compiling the native engine failed \(above\)\. Fix:/);
  });

  test("a kernel is a file: every one is compiled into each variant", () => {
    const list = (flag: string): string[] =>
      spawnSync(process.execPath, [join(root, "scripts", "native-sources.mjs"), flag], { encoding: "utf8" })
        .stdout.trim()
        .split("\n");
    const variant = list("--variant");
    const shared = list("--runtime");
    const small = readFileSync(join(root, "native", "small_kernels.cc"), "utf8");
    for (const name of readdirSync(join(root, "native", "kernels")).filter((file) => file.endsWith(".cc"))) {
      const includes = small.split("\n").filter((line) => line === `#include "kernels/${name}"`).length;
      assert.equal(Number(variant.includes(`native/kernels/${name}`)) + includes, 1, name);
    }
    for (const name of readdirSync(join(root, "native")).filter((file) => file.endsWith(".cc"))) {
      assert.equal(Number(variant.includes(`native/${name}`)) + Number(shared.includes(`native/${name}`)), 1, name);
    }
  });
});
