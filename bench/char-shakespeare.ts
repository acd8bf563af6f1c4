/**
 * Character-level Shakespeare by nanoGPT's CPU recipe, start to end on the command line, and the same model in PyTorch
 * where it is installed (PLINTH_PYTHON):
 *
 *     npx tsc -p tsconfig.test.json && node dist-test/bench/char-shakespeare.js [--text FILE] [--rounds N] [--json]
 *
 * Prints held-out loss over the whole held-out text, seconds of training and the ratio of the two. The published loss to
 * reach is 1.88. The learning rate of both is the recipe's, twice nanoGPT's (see there).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/base/index.ts";
import { hostInfo } from "../src/engine/index.ts";
import { plinth, run, shakespeareText } from "./command-line.ts";
import { median, missingModule, python } from "./peer.ts";

interface Outcome {
  readonly seconds: number;
  readonly heldOutLoss: number;
}

const publishedLoss = 1.88;
/** Training seconds of ours: tokens over rate, so that held-out measurements and checkpoints are not counted on either side. */
function runOurs(folder: string, round: number): Outcome & { readonly totalSeconds: number } {
  const recipe = join(packageRoot(), "recipes", "char-shakespeare.yaml");
  const out = join(folder, `run-${round}`);
  const started = performance.now();
  const document = plinth("pretrain", recipe, "--data", join(folder, "data"), "--out", out, "--json");
  const { heldOut, tokens, tokensPerSecond } = JSON.parse(document) as {
    heldOut: { loss: number };
    tokens: number;
    tokensPerSecond: number;
  };
  const totalSeconds = (performance.now() - started) / 1000;
  return { seconds: tokens / tokensPerSecond, heldOutLoss: heldOut.loss, totalSeconds };
}

function runPeer(text: string): Outcome & { readonly version: string } {
  const script = join(packageRoot(), "bench", "peers", "nanogpt_char.py");
  return JSON.parse(run(python, [script, text, "--threads", `${hostInfo().threads}`])) as Outcome & { version: string };
}

const { values } = parseArgs({
  options: {
    text: { type: "string" },
    rounds: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const text = values.text ?? shakespeareText;
const folder = await mkdtemp(join(tmpdir(), "plinth-shakespeare-"));
try {
  plinth("data", "build", "--from", text, "--split", "tail", "--held-out", "0.1", "--out", join(folder, "data"));
  const absent = missingModule("torch");
  const ours: ReturnType<typeof runOurs>[] = [];
  const theirs: ReturnType<typeof runPeer>[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    ours.push(runOurs(folder, round));
    if (absent === undefined) theirs.push(runPeer(text));
  }
  const seconds = median(ours.map((outcome) => outcome.seconds));
  const heldOutLoss = Math.max(...ours.map((outcome) => outcome.heldOutLoss));
  const peerSeconds = median(theirs.map((outcome) => outcome.seconds));
  const result = {
    name: "character-level Shakespeare, nanoGPT's CPU recipe, 2000 steps",
    heldOutLoss,
    publishedLoss,
    reached: heldOutLoss <= publishedLoss,
    seconds,
    totalSeconds: median(ours.map((outcome) => outcome.totalSeconds)),
    ...(theirs[0] === undefined
      ? { peer: null, note: absent }
      : {
          peer: { name: `PyTorch ${theirs[0].version}`, seconds: peerSeconds, heldOutLoss: theirs[0].heldOutLoss },
          ratio: peerSeconds / seconds,
        }),
  };
  if (values.json) process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  else {
    const { peer } = result;
    const lines = [
      result.name,
      `  plinth         held-out loss ${heldOutLoss.toFixed(4)} (${result.reached ? "reached" : "MISSED"} ${publishedLoss}), ${seconds.toFixed(1)} s of training, ${result.totalSeconds.toFixed(1)} s in all`,
      peer === null
        ? `  no peer: ${absent}`
        : `  ${peer.name}  held-out loss ${peer.heldOutLoss.toFixed(4)}, ${peer.seconds.toFixed(1)} s of training: ${(peer.seconds / seconds).toFixed(2)} x`,
    ];
    process.stdout.write(`${lines.join("\n")}\n`);
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
