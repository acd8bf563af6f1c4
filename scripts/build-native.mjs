// Builds the native engine: run by `npm install`, and by `npm run build:native` while working on it.
//
//   node scripts/build-native.mjs [--force] [--clean] [--verbose]
//
// A prebuilt in prebuilds/ that loads is used as it is; --force compiles nevertheless. Compiling is incremental unless
// --clean. Nothing is ever downloaded: headers come from the running Node's own installation, else from the
// node-api-headers package. PLINTH_SKIP_NATIVE=1 builds nothing (the reference backend needs no native part).
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { delimiter, dirname, join } from "node:path";

const root = join(import.meta.dirname, "..");
const require = createRequire(import.meta.url);
const windows = process.platform === "win32";
const flags = new Set(process.argv.slice(2));

/** First of the programs that PATH offers, resolved. */
function findProgram(names) {
  const extensions = windows ? [".exe", ".cmd", ".bat"] : [""];
  for (const name of names) {
    if (/[\\/]/.test(name) && existsSync(name)) return name;
    for (const folder of (process.env.PATH ?? "").split(delimiter)) {
      for (const extension of extensions) {
        const path = join(folder, name + extension);
        if (folder !== "" && existsSync(path)) return path;
      }
    }
  }
  return undefined;
}

/** Folder of a prebuilt for this platform that really loads, or undefined. */
function findPrebuilt() {
  if (flags.has("--force") || process.env.npm_config_build_from_source) return undefined;
  if (!existsSync(join(root, "prebuilds"))) return undefined;
  let path;
  try {
    process.env.PREBUILDS_ONLY = "1"; // read by node-gyp-build when it is loaded
    path = require("node-gyp-build").resolve(root);
  } catch {
    return undefined;
  }
  // Load the least demanding variant: another may need instructions that this processor lacks.
  const folder = dirname(path);
  const name = readdirSync(folder).find((file) => /^plinth-(baseline|neon)\b.*\.node$/.test(file));
  if (name === undefined) return undefined;
  const loaded = spawnSync(process.execPath, ["-e", "require(process.argv[1])", join(folder, name)], {
    stdio: "ignore",
  });
  return loaded.status === 0 ? folder : undefined;
}

/** node-gyp's script: what npm says, else in PATH, else the copy inside npm. */
function findNodeGyp() {
  const candidates = [process.env.npm_config_node_gyp];
  const inPath = findProgram(["node-gyp"]);
  if (inPath !== undefined && !windows) candidates.push(realpathSync(inPath));
  const npm = process.env.npm_execpath ?? findProgram(["npm"]);
  const inside = join("node_modules", "node-gyp", "bin", "node-gyp.js");
  if (npm !== undefined && existsSync(npm)) candidates.push(join(dirname(realpathSync(npm)), "..", inside));
  candidates.push(
    join(dirname(process.execPath), "..", "lib", "node_modules", "npm", inside),
    join(dirname(process.execPath), "node_modules", "npm", inside),
  );
  return candidates.find((path) => path?.endsWith(".js") && existsSync(path));
}

/** Folder whose include/node has Node-API's headers. */
function headerFolder() {
  const prefix = join(dirname(realpathSync(process.execPath)), "..");
  const own = join(prefix, "include", "node");
  if (existsSync(join(own, "node_api.h")) && existsSync(join(own, "common.gypi"))) return prefix;
  const folder = join(root, "build", "node-headers");
  const include = join(folder, "include", "node");
  mkdirSync(include, { recursive: true });
  const from = require("node-api-headers").include_dir;
  for (const file of readdirSync(from)) {
    if (file.endsWith(".h")) copyFileSync(join(from, file), join(include, file));
  }
  const [major, minor, patch] = process.versions.node.split(".");
  writeFileSync(
    join(include, "node_version.h"),
    `#define NODE_MAJOR_VERSION ${major}\n#define NODE_MINOR_VERSION ${minor}\n#define NODE_PATCH_VERSION ${patch}\n`,
  );
  writeFileSync(join(include, "common.gypi"), `${JSON.stringify(commonGypi, undefined, 2)}\n`);
  writeFileSync(join(include, "config.gypi"), `${JSON.stringify({ target_defaults: {}, variables: {} })}\n`);
  return folder;
}

/** The little of Node's own common.gypi that an addon needs. */
const commonGypi = {
  variables: { "visibility%": "hidden", "library%": "static_library", "component%": "static_library" },
  target_defaults: {
    default_configuration: "Release",
    configurations: { Release: { defines: ["NDEBUG"] }, Debug: { defines: ["DEBUG"] } },
    conditions: [
      ["OS!='win' and OS!='mac'", { cflags: ["-fPIC", "-pthread"], ldflags: ["-pthread"] }],
      [
        "OS=='mac'",
        { xcode_settings: { OTHER_LDFLAGS: ["-undefined dynamic_lookup"], ALWAYS_SEARCH_USER_PATHS: "NO" } },
      ],
    ],
  },
};

/** What is missing to compile, as a user would install it. */
function missingTools() {
  if (windows) return []; // node-gyp looks for Visual Studio itself
  const missing = [];
  const compiler = process.env.CXX?.split(" ")[0];
  if (findProgram([compiler ?? "c++", "g++", "clang++"]) === undefined) missing.push("a C++20 compiler");
  if (findProgram(["make", "gmake"]) === undefined) missing.push("make");
  if (findProgram([process.env.PYTHON ?? "python3", "python3", "python"]) === undefined) missing.push("python3");
  return missing;
}

const installHint = {
  linux: "apt-get install g++ make python3",
  darwin: "xcode-select --install",
  win32: "install Visual Studio Build Tools with C++ and Python 3",
};

function giveUp(missing) {
  const how = installHint[process.platform] ?? "install a C++20 compiler, make and python3";
  console.error(
    `plinth: no native engine: ${missing.join(" and ")} not found, and no prebuilt for ${process.platform}-${process.arch}; ` +
      `only the slow reference backend works. Fix: ${how}, then npm rebuild plinth.`,
  );
}

function build() {
  const missing = missingTools();
  const nodeGyp = findNodeGyp();
  if (nodeGyp === undefined) missing.push("node-gyp (it comes with npm)");
  if (missing.length > 0) {
    giveUp(missing);
    return 0;
  }
  if (flags.has("--clean")) rmSync(join(root, "build"), { recursive: true, force: true });
  const started = performance.now();
  const verbose = flags.has("--verbose");
  // node-gyp prefers npm_config_* to its own arguments.
  const env = {
    ...process.env,
    npm_config_nodedir: headerFolder(),
    npm_config_loglevel: verbose ? "verbose" : "error",
  };
  delete env.npm_config_devdir;
  const jobs = process.env.JOBS ?? String(availableParallelism());
  const args = [nodeGyp, "configure", "build", "--release", `--jobs=${jobs}`, verbose ? "--verbose" : "--silent"];
  const result = spawnSync(process.execPath, args, {
    cwd: root,
    env,
    encoding: "utf8",
    stdio: verbose ? "inherit" : "pipe",
  });
  if (result.status !== 0) {
    const log = `${result.stdout ?? ""}${result.stderr ?? ""}`.trim().split("\n").slice(-60).join("\n");
    console.error(log);
    console.error(
      "plinth: compiling the native engine failed (above). Fix: use GCC 12, Clang 15 or newer (CXX=...), " +
        "or set PLINTH_SKIP_NATIVE=1 to install with the slow reference backend only.",
    );
    return 1;
  }
  const built = readdirSync(join(root, "build", "Release")).filter((name) => name.endsWith(".node"));
  console.log(`plinth: built ${built.sort().join(", ")} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return 0;
}

if (process.env.PLINTH_SKIP_NATIVE === "1") {
  console.log("plinth: PLINTH_SKIP_NATIVE is set, the native engine is not built");
} else {
  const prebuilt = findPrebuilt();
  if (prebuilt !== undefined) console.log(`plinth: using the prebuilt native engine in ${prebuilt}`);
  else process.exitCode = build();
}
