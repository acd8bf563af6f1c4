import { barChart, escapeXml, lineChart, type Series, stackCharts } from "./chart.ts";

/** Everything the quickstart found; the `--json` document is this with the curves left out. */
export interface QuickstartResult {
  readonly dataset: {
    readonly documents: number;
    readonly bytes: number;
    readonly heldOutDocuments: number;
    readonly licences: Readonly<Record<string, number>>;
    readonly filtered: Readonly<Record<string, number>>;
    readonly sources: readonly string[];
    readonly hash: string;
  };
  readonly tokenizer: { readonly vocabSize: number; readonly bytesPerToken: number };
  readonly model: {
    readonly arch: string;
    readonly parameters: number;
    readonly layers: number;
    readonly width: number;
    readonly heads: number;
    readonly context: number;
    readonly steps: number;
    readonly tokens: number;
    readonly tokensPerSecond: number;
    readonly bitsPerByte: number;
    readonly path: string;
  };
  readonly tasks: readonly TaskResult[];
  readonly seconds: Readonly<Record<string, number>>;
  readonly samples: readonly { readonly title: string; readonly prompt: string; readonly text: string }[];
  readonly report: string;
}

export interface TaskResult {
  readonly name: string;
  readonly metric: "bits-per-byte";
  readonly summary: string;
  readonly documents: number;
  readonly base: Estimate;
  readonly adapted: Estimate;
  readonly scratch: Estimate;
}

export interface Estimate {
  readonly value: number;
  readonly standardError: number;
}

export interface Curves {
  readonly pretraining: readonly Series[];
  readonly adaptation: readonly Series[];
}

/** True when a is lower than b by more than two standard errors of the difference (taken as independent: the strict case). */
export function clearlyLower(a: Estimate, b: Estimate): boolean {
  return b.value - a.value > 2 * Math.hypot(a.standardError, b.standardError);
}

/** One self-contained HTML page: no script, no network. */
export function reportHtml(result: QuickstartResult, curves: Curves): string {
  const { dataset, model, tasks, samples } = result;
  const total = Object.values(result.seconds).reduce((a, b) => a + b, 0);
  const sections = [
    `<h1>Plinth quickstart</h1>
<p>A ${model.arch} of ${count(model.parameters)} parameters, pretrained from nothing on ${count(dataset.bytes)} bytes of
${escapeXml(dataset.sources.join(", "))}, then adapted to ${tasks.length} tasks by LoRA. ${Math.round(total)} seconds in all.</p>`,
    `<h2>Pretraining</h2>${pretrainingChart(curves)}
<p>${count(model.tokens)} tokens in ${count(model.steps)} steps, ${count(Math.round(model.tokensPerSecond))} tokens a second;
held-out documents end at ${model.bitsPerByte.toFixed(3)} bits per byte.</p>`,
    `<h2>Adaptation</h2>${taskChart(tasks)}
<p>Bits per byte of the answer on held-out documents; lower is better; the bars span two standard errors each way. <em>base</em>: the
pretrained model as it is. <em>adapted</em>: the same with a LoRA. <em>scratch</em>: the same network trained on the task alone, all
weights, for as many steps.</p>
${table(
  ["task", "what it asks", "documents", "base", "adapted", "scratch", "adapted beats both by 2 standard errors"],
  tasks.map((task) => [
    task.name,
    task.summary,
    count(task.documents),
    estimate(task.base),
    estimate(task.adapted),
    estimate(task.scratch),
    clearlyLower(task.adapted, task.base) && clearlyLower(task.adapted, task.scratch) ? "yes" : "no",
  ]),
)}
${lineChart(curves.adaptation, { title: "Adaptation loss", x: "step", y: "bits per token" })}`,
    `<h2>Samples</h2>${samples
      .map(
        (sample) =>
          `<h3>${escapeXml(sample.title)}</h3><pre><span class="prompt">${escapeXml(sample.prompt)}</span>${escapeXml(sample.text)}</pre>`,
      )
      .join("")}`,
    `<h2>Data</h2><p>${count(dataset.documents)} documents for training, ${count(dataset.heldOutDocuments)} held out by document; one
token is ${result.tokenizer.bytesPerToken.toFixed(2)} bytes on average. Dataset <code>${escapeXml(dataset.hash)}</code>.</p>
${table(
  ["licence", "documents"],
  Object.entries(dataset.licences).map(([name, n]) => [name, count(n)]),
)}
${table(
  ["filtered because of", "documents"],
  Object.entries(dataset.filtered).map(([name, n]) => [name, count(n)]),
)}`,
    `<h2>Time</h2>${table(
      ["part", "seconds"],
      Object.entries(result.seconds).map(([name, s]) => [name, s.toFixed(1)]),
    )}`,
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Plinth quickstart</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:760px;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
svg{width:100%;height:auto}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #8884;text-align:left}
pre{white-space:pre-wrap;background:#8881;padding:1rem;border-radius:6px;overflow-wrap:anywhere}.prompt{opacity:.65}
</style></head><body>
${sections.join("\n")}
</body></html>
`;
}

/** The two charts that say it all, as a picture of their own. */
export function reportPicture(tasks: readonly TaskResult[], curves: Curves): string {
  return stackCharts([pretrainingChart(curves), taskChart(tasks)]);
}

function pretrainingChart(curves: Curves): string {
  return lineChart(curves.pretraining, { title: "Pretraining loss", x: "step", y: "bits per byte" });
}

function taskChart(tasks: readonly TaskResult[]): string {
  return barChart(
    tasks.map((task) => ({
      name: task.name,
      bars: [
        { name: "base", ...task.base },
        { name: "adapted", ...task.adapted },
        { name: "scratch", ...task.scratch },
      ],
    })),
    { title: "Bits per byte of the answers, lower is better", y: "bits per byte" },
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "";
  const cells = (row: readonly string[], tag: string) =>
    row.map((cell) => `<${tag}>${escapeXml(cell)}</${tag}>`).join("");
  return `<table><thead><tr>${cells(head, "th")}</tr></thead><tbody>${rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("")}</tbody></table>`;
}

export function estimate(e: Estimate): string {
  return `${e.value.toFixed(3)} ± ${e.standardError.toFixed(3)}`;
}

function count(n: number): string {
  return n.toLocaleString("en-US");
}
