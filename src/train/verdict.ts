import { PlinthError } from "../base/index.ts";
import type { CheckpointInfo } from "./checkpoint.ts";
import type { SpikeDetector } from "./spike.ts";
import type { StepResult } from "./step.ts";

export interface VerdictContext {
  readonly step: number;
  readonly lr: number;
  readonly clipNorm: number;
  readonly latest: CheckpointInfo | undefined;
}

/**
 * Decides whether a step may stand. Gives true while the loss is suspiciously high. Throws PlinthError when loss or
 * gradient are not finite or the loss has stayed out of its range, saying what happened and where to go on from.
 */
export function judgeStep(result: StepResult, spike: SpikeDetector | undefined, context: VerdictContext): boolean {
  const { loss, gradNorm, badParameter, tokenCount } = result;
  if (tokenCount === 0) {
    throw new PlinthError(
      `step ${context.step}: the batch has no target tokens`,
      "check the data: every token of these documents is masked out",
    );
  }
  if (!Number.isFinite(loss) || !Number.isFinite(gradNorm) || badParameter !== undefined) {
    const where = badParameter === undefined ? "" : `, first in the gradient of ${badParameter}`;
    throw new PlinthError(
      `step ${context.step}: not finite: loss ${loss}, gradient norm ${gradNorm}${where} (learning rate ${context.lr})`,
      advice(context),
    );
  }
  if (spike === undefined) return false;
  const range = spike.limit;
  if (spike.add(loss)) {
    throw new PlinthError(
      `step ${context.step}: the loss has left its range: ${loss.toFixed(4)}, above ${range?.limit.toFixed(4)} for ${spike.options.patience} steps (recent mean ${range?.mean.toFixed(4)}, gradient norm ${gradNorm.toPrecision(4)}, learning rate ${context.lr})`,
      advice(context),
    );
  }
  return spike.suspicious;
}

function advice({ latest, lr, clipNorm }: VerdictContext): string {
  const change = `a lower learning rate (--lr, half of it first; it was ${lr.toPrecision(3)} here)${
    Number.isFinite(clipNorm) ? ` or a smaller clipping norm (it is ${clipNorm})` : " or with gradient clipping"
  }`;
  return latest === undefined
    ? `nothing was saved before; start again with ${change}`
    : `step ${latest.step} is the last good one: begin a new run from ${latest.folder} (--init) with ${change}`;
}
