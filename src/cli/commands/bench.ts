import { PlinthError, packageVersion, writeJsonAtomic } from "../../base/index.ts";
import {
  chromeTrace,
  hostInfo,
  type MachineLimits,
  measureLimits,
  operandsOfPrecision,
  type ProfileEntry,
  precisions,
} from "../../engine/index.ts";
import { castParams } from "../../models/index.ts";
import { readSubject, type Subject } from "../bench/model.ts";
import { measureOverview } from "../bench/overview.ts";
import { decodeProbe, type Probe, timeRuns, trainProbe } from "../bench/probes.ts";
import { alignColumns, percent, profileDocument, profileTables } from "../bench/report.ts";
import type { Command, CommandArgs, CommandIo, OptionSpec } from "../command.ts";
import { withRecipe } from "../recipe.ts";
import { command as pretrain } from "./pretrain.ts";

const shared = (...names: readonly string[]): Record<string, OptionSpec> =>
  Object.fromEntries(names.map((name) => [name, pretrain.options[name] as OptionSpec]));

const options: Readonly<Record<string, OptionSpec>> = {
  profile: { type: "boolean", summary: "where a training step's time goes, by kernel and by operation" },
  decode: { type: "boolean", summary: "with --profile: a decoding step (one more token per row, cache of --context)" },
  trace: { type: "string", summary: "with --profile: Chrome trace of the last step (chrome://tracing, Perfetto)" },
  rows: { type: "integer", default: 25, summary: "operations shown at most by --profile" },
  recipe: { type: "string", summary: "file of flags of plinth pretrain, for model and batch; the command line wins" },
  ...shared("arch", "layers", "width"),
  heads: { type: "integer", summary: "attention heads (default one for every 64 of the width)" },
  ...shared("kv-heads", "ffn-width", "context", "init"),
  vocab: { type: "integer", default: 4096, summary: "tokens of the vocabulary" },
  "batch-size": { type: "integer", default: 8, summary: "rows of a step (--decode: default 1)" },
  ...shared("optimizer"),
  precision: { type: "string", choices: precisions, summary: "arithmetic (--profile: default f32; else both)" },
  seconds: { type: "number", default: 3, summary: "time for each measurement" },
};

export const command: Command = {
  name: "bench",
  summary: "this machine's figures against its limits; --profile: where a step's time goes",
  example: "plinth bench --profile --layers 12 --width 768 --heads 12 --context 512 --batch-size 2 --trace step.json",
  options,
  async run(given, io) {
    const [profile, decode] = [given.boolean("profile"), given.boolean("decode")];
    for (const name of ["trace", "decode", "rows"]) {
      if (profile || given.string(name) === undefined) continue;
      throw new PlinthError(`--${name} needs --profile`, `for example: ${command.example}`);
    }
    const seconds = given.number("seconds") ?? 3;
    if (!(seconds > 0)) throw new PlinthError(`--seconds expects a number above 0, got ${seconds}`);
    const args = await withRecipe(given, given.string("recipe"), { ...pretrain.options, ...options });
    const subject = await readSubject(args, io, decode);
    if ("missing" in hostInfo().native) measureLimits(); // says what is missing
    io.progress("measuring the machine's limits");
    const limits = measureLimits({ seconds: Math.min(0.5, seconds) });
    if (profile) await profileStep(subject, { args, io, limits, seconds, decode });
    else await overview(subject, { io, limits, seconds });
  },
};

async function overview(
  subject: Subject,
  { io, limits, seconds }: { io: CommandIo; limits: MachineLimits; seconds: number },
): Promise<void> {
  const rows = await measureOverview(subject, { limits, io, secondsEach: seconds });
  const { cpu, threads, native } = hostInfo();
  io.result({ version: packageVersion(), cpu, threads, native, limits, subject: subject.text, rows });
  io.print(`${cpu}, ${threads} threads; ${subject.text}`);
  const figure = (value: number): string => value.toFixed(value < 100 ? 1 : 0);
  const cells = rows.map(({ name, value, unit, limited }) => [
    name,
    `${figure(value)} ${unit}`,
    `${figure(limited.value)} of ${figure(limited.limit)} ${limited.unit}`,
    percent(limited.value / limited.limit),
  ]);
  io.print(alignColumns([["", "", "against the limit", ""], ...cells]));
}

interface ProfileContext {
  readonly args: CommandArgs;
  readonly io: CommandIo;
  readonly limits: MachineLimits;
  readonly seconds: number;
  readonly decode: boolean;
}

async function profileStep(subject: Subject, context: ProfileContext): Promise<void> {
  const { args, io, limits, seconds, decode } = context;
  const precision = subject.precision ?? "f32";
  io.progress(`compiling: ${subject.text}`);
  const model = await subject.open();
  const narrow = decode && precision === "bf16";
  const probe: Probe = decode
    ? decodeProbe(narrow ? { ...model, params: castParams(model.params, "bfloat16") } : model, subject)
    : trainProbe(model, { ...subject, precision });
  await probe.run();
  for (const executable of probe.executables) executable.startProfile?.();
  io.progress("timing kernels");
  const times = await timeRuns(probe, { rounds: 200, budgetSeconds: seconds, signal: io.signal });
  const profiles = probe.executables.map((executable): readonly ProfileEntry[] => executable.profile?.() ?? []);
  const what = decode ? "decoding step" : "training step";
  const step = {
    title: `${what}, ${operandsOfPrecision[precision]}: ${subject.text}`,
    seconds: times.reduce((sum, time) => sum + time, 0) / times.length,
    tokens: probe.tokens,
    compileSeconds: probe.compileSeconds,
    peakBytes: probe.peakBytes,
    runs: times.length,
    entries: profiles.flat(),
  };
  const trace = args.string("trace");
  if (trace !== undefined) {
    await writeJsonAtomic(trace, chromeTrace(profiles.map((entries) => ({ name: step.title, entries }))));
    io.note(`trace of the last step: ${trace} (open it in chrome://tracing or ui.perfetto.dev)`);
  }
  io.result(profileDocument(step, limits));
  io.print(profileTables(step, limits, args.number("rows") ?? 25));
}
