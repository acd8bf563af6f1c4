import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command } from "../../src/cli/command.ts";
import { formatHelp, parseCommandLine } from "../../src/cli/parse.ts";

const command: Command = {
  name: "data build",
  summary: "Builds a dataset.",
  example: "plinth data build --from docs --out data",
  positionals: [{ name: "FOLDER", required: false, summary: "where" }],
  options: {
    from: { type: "string", summary: "source", repeatable: true, required: true },
    "held-out": { type: "number", summary: "share", default: 0.05 },
    steps: { type: "integer", summary: "steps" },
    resume: { type: "boolean", summary: "go on" },
    schedule: { type: "string", summary: "schedule", choices: ["cosine", "wsd"] },
  },
  run: async () => undefined,
};

test("flags of every type are read", () => {
  const args = parseCommandLine(command, [
    "x",
    "--from",
    "a",
    "--from=b",
    "--held-out",
    "0.1",
    "--resume",
    "--schedule",
    "wsd",
  ]);
  assert.deepEqual(args.positionals, ["x"]);
  assert.deepEqual(args.strings("from"), ["a", "b"]);
  assert.equal(args.number("held-out"), 0.1);
  assert.equal(args.boolean("resume"), true);
  assert.equal(args.boolean("json"), false);
  assert.equal(args.number("steps"), undefined);
  assert.equal(args.string("schedule"), "wsd");
  assert.equal(parseCommandLine(command, ["--from", "a", "--no-resume"]).boolean("resume"), false);
  assert.equal(parseCommandLine(command, ["--from", "-5"]).string("from"), "-5");
});

for (const [name, argv, message] of [
  ["unknown flag", ["--form", "a"], /unknown flag --form\. Fix: did you mean --from\?/],
  ["missing flag", [], /data build: --from is missing\. Fix: for example: plinth data build --from docs/],
  ["missing value", ["--from"], /--from needs a value/],
  ["not a number", ["--from", "a", "--held-out", "x"], /--held-out expects a number, got "x"/],
  ["not whole", ["--from", "a", "--steps", "1.5"], /--steps expects a whole number, got "1.5"/],
  [
    "wrong choice",
    ["--from", "a", "--schedule", "cosin"],
    /--schedule expects one of cosine, wsd, got "cosin"\. Fix: did you mean cosine\?/,
  ],
  ["twice", ["--from", "a", "--steps", "1", "--steps", "2"], /--steps is given 2 times/],
  ["surplus argument", ["--from", "a", "x", "y"], /unexpected argument "y"/],
] as const) {
  test(`the command line is refused: ${name}`, () => {
    assert.throws(() => parseCommandLine(command, argv), message);
  });
}

test("help names every flag, its default and the example", () => {
  const help = formatHelp(command);
  for (const flag of ["--from", "--held-out", "--steps", "--resume", "--schedule cosine|wsd", "--json", "--verbose"]) {
    assert.ok(help.includes(flag), flag);
  }
  assert.match(help, /share \(default 0\.05\)/);
  assert.match(help, /plinth data build --from docs --out data/);
});
