// The kernels of the NEON variant, cross-compiled and run under an emulator: npm run test:neon. Every sample of the
// contract suite with its gradients, random graphs and training steps, on one thread and on two.
// Needs (Debian) g++-aarch64-linux-gnu and qemu-user-static; on an ARM machine it runs as it is.
import { spawnSync } from "node:child_process";
import { buildDriver, compileTests, writeCases } from "./native-driver.mjs";

const isArm = process.arch === "arm64" && process.platform === "linux";
const emulator = ["qemu-aarch64-static", "qemu-aarch64"].find(
  (name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0,
);
if (!isArm && emulator === undefined) {
  console.error("plinth: no emulator of AArch64 found. Fix: apt-get install qemu-user-static");
  process.exit(1);
}
const driver = buildDriver(isArm ? "plain" : "neon", "neon");
const js = driver === undefined ? undefined : compileTests();
if (driver === undefined || js === undefined) process.exit(1);
const files = [
  writeCases(js, "contract"),
  writeCases(js, "graphs", { count: 40 }),
  writeCases(js, "steps", { count: 12 }),
];
const [command, ...args] = isArm ? [driver, ...files] : [emulator, driver, ...files];
process.exitCode = spawnSync(command, [...args, "--threads", "1,2"], { stdio: "inherit" }).status ?? 1;
