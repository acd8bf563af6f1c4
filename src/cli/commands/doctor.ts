import { packageVersion } from "../../base/index.ts";
import { formatBytes, hostInfo, measureLimits } from "../../engine/index.ts";
import type { Command } from "../command.ts";

export const command: Command = {
  name: "doctor",
  summary: "what this machine offers: cores, instruction sets, memory, measured limits",
  example: "plinth doctor",
  options: {},
  async run(_args, io) {
    const host = hostInfo();
    const limits = "isa" in host.native ? measureLimits({ seconds: 0.3 }) : undefined;
    const version = packageVersion();
    io.result({ version, ...host, limits });
    const lines: [string, string][] = [
      ["plinth", version],
      ["node", `${host.node} on ${host.platform}`],
      ["processor", `${host.cpu}, ${host.cores} cores, ${host.threads} engine threads`],
      ["memory", `${formatBytes(host.totalMemory)}, ${formatBytes(host.availableMemory)} available`],
    ];
    if ("isa" in host.native) {
      lines.push(
        ["native engine", `${host.native.isa} (built: ${host.native.built.join(", ")})`],
        ["cpu features", host.native.cpuFeatures.join(" ")],
      );
    } else {
      lines.push(["native engine", host.native.missing]);
    }
    if (limits !== undefined) {
      lines.push(["float32 limit", `${limits.gflops.toFixed(0)} GFLOP/s`]);
      lines.push(["bfloat16 limit", `${limits.bfloat16Gflops.toFixed(0)} GFLOP/s`]);
      lines.push(["memory limit", `${limits.gigabytesPerSecond.toFixed(1)} GB/s`]);
    }
    for (const [name, text] of lines) io.print(`${name.padEnd(14)} ${text}`);
  },
};
