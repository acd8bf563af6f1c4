// The native part under sanitizers: npm run test:sanitize [-- --minutes 10] [--seed 1] [--only address|thread] [--isa NAME].
//
// Two builds of native/driver (AddressSanitizer with UndefinedBehaviorSanitizer, and ThreadSanitizer) run the contract's
// programs, then for the time given random graphs, training steps of transformers of random shapes, and hostile programs,
// new ones in every round, on one to four threads, comparing bits. Any report or difference fails.
import { spawnSync } from "node:child_process";
import { buildDriver, compileTests, hostIsa, writeCases } from "./native-driver.mjs";

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const minutes = Number(option("minutes", "1"));
const firstSeed = Number(option("seed", "1"));
const isa = option("isa", hostIsa());
const kinds = ["address", "thread"].filter((kind) => option("only", kind) === kind);
const drivers = new Map(kinds.map((kind) => [kind, buildDriver(kind, isa)]));
const js = compileTests();
if (js === undefined || [...drivers.values()].includes(undefined)) process.exit(1);

const started = performance.now();
const secondsLeft = () => minutes * 60 - (performance.now() - started) / 1000;
const env = {
  ...process.env,
  ASAN_OPTIONS: "allocator_may_return_null=1:detect_leaks=1",
  UBSAN_OPTIONS: "print_stacktrace=1",
  TSAN_OPTIONS: "halt_on_error=1",
};
let failures = 0;
function drive(kind, args) {
  const { status, signal } = spawnSync(drivers.get(kind), args, { stdio: "inherit", env });
  if (status === 0) return;
  failures++;
  console.error(`plinth: ${kind} sanitizer: ${signal ?? `exit ${status}`}: ${drivers.get(kind)} ${args.join(" ")}`);
}

const contract = writeCases(js, "contract");
for (const kind of kinds) drive(kind, [contract, "--threads", "2,1"]);
for (let round = 0; secondsLeft() > 0 && failures === 0; round++) {
  const seed = firstSeed + round;
  const sound = [writeCases(js, "graphs", { seed, count: 60 }), writeCases(js, "steps", { seed, count: 40 })];
  const hostile = writeCases(js, "hostile", { seed, count: 3000 });
  for (const kind of kinds) {
    const seconds = Math.max(5, Math.min(60, secondsLeft() / kinds.length / 2)).toFixed(0);
    drive(kind, [...sound, "--threads", "1,2,4,3", "--seconds", seconds, "--seed", String(seed)]);
    if (kind === "address") drive(kind, [hostile, "--threads", "2", "--isolate"]);
  }
}
console.log(
  `plinth: sanitizers (${kinds.join(", ")}; ${isa}): ${failures} failures in ${((performance.now() - started) / 60_000).toFixed(1)} minutes`,
);
process.exitCode = failures > 0 ? 1 : 0;
