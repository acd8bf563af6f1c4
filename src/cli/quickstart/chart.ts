/** Small charts as standalone SVG text: no script, no external file, readable in light and dark. */

export interface Series {
  readonly name: string;
  /** [x, y] in order of x. */
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Draw the points as well as the line. */
  readonly dots?: boolean;
}

export interface Bar {
  readonly name: string;
  readonly value: number;
  readonly standardError: number;
}

const width = 720;
const height = 320;
const margin = { left: 64, right: 20, top: 36, bottom: 44 };
const colours = ["#3366cc", "#dc6b19", "#2b8a57", "#8a3fa0", "#b02a37"];

/** Curves over a common x axis. Empty series are left out. */
export function lineChart(
  series: readonly Series[],
  labels: { readonly title: string; readonly x: string; readonly y: string },
): string {
  const drawn = series.filter((s) => s.points.length > 0);
  const xs = drawn.flatMap((s) => s.points.map((p) => p[0]));
  const ys = drawn.flatMap((s) => s.points.map((p) => p[1]));
  const x = scale(0, Math.max(1, ...xs), margin.left, width - margin.right);
  const y = scale(Math.min(...ys, 0), Math.max(...ys, 1e-9) * 1.05, height - margin.bottom, margin.top);
  const lines = drawn.map((s, i) => {
    const colour = colours[i % colours.length] as string;
    const path = s.points.map(([px, py], j) => `${j === 0 ? "M" : "L"}${round(x.at(px))},${round(y.at(py))}`).join("");
    const dots = s.dots === true ? s.points.map(([px, py]) => circle(x.at(px), y.at(py), colour)).join("") : "";
    return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${dots}`;
  });
  const names = drawn.map((s) => s.name);
  return svg(labels.title, frame(x, y, labels) + lines.join("") + legend(names));
}

/** Groups of bars with error bars of two standard errors; lower is better or not is for the caption to say. */
export function barChart(
  groups: readonly { readonly name: string; readonly bars: readonly Bar[] }[],
  labels: { readonly title: string; readonly y: string },
): string {
  const top = Math.max(1e-9, ...groups.flatMap((g) => g.bars.map((b) => b.value + 2 * b.standardError)));
  const y = scale(0, top * 1.1, height - margin.bottom, margin.top);
  const inner = width - margin.left - margin.right;
  const slot = inner / Math.max(1, groups.length);
  const drawn = groups.map((group, g) => {
    const barWidth = Math.min(56, (slot * 0.7) / Math.max(1, group.bars.length));
    const start = margin.left + slot * g + (slot - barWidth * group.bars.length) / 2;
    const bars = group.bars.map((bar, b) => {
      const left = start + b * barWidth;
      const middle = left + barWidth / 2;
      const head = y.at(bar.value + 2 * bar.standardError);
      const foot = y.at(Math.max(0, bar.value - 2 * bar.standardError));
      return (
        `<rect x="${round(left + 2)}" y="${round(y.at(bar.value))}" width="${round(barWidth - 4)}" ` +
        `height="${round(y.at(0) - y.at(bar.value))}" fill="${colours[b % colours.length]}" fill-opacity="0.85"/>` +
        `<path d="M${round(middle)},${round(head)}V${round(foot)}" class="axis" stroke-width="1.5"/>` +
        `<text x="${round(middle)}" y="${round(head - 5)}" text-anchor="middle">${bar.value.toFixed(2)}</text>`
      );
    });
    const label = `<text x="${round(margin.left + slot * (g + 0.5))}" y="${height - margin.bottom + 18}" text-anchor="middle">${escapeXml(group.name)}</text>`;
    return bars.join("") + label;
  });
  const names = groups[0]?.bars.map((bar) => bar.name) ?? [];
  return svg(labels.title, yAxis(y, labels.y) + drawn.join("") + legend(names));
}

/** Charts one under the other in one picture. */
export function stackCharts(charts: readonly string[]): string {
  const placed = charts.map((chart, i) =>
    chart.replace("<svg ", `<svg y="${i * (height + 12)}" width="${width}" height="${height}" `),
  );
  const total = charts.length * (height + 12);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" role="img">${placed.join("")}</svg>\n`;
}

interface Scale {
  readonly low: number;
  readonly high: number;
  readonly at: (value: number) => number;
}

function scale(low: number, high: number, from: number, to: number): Scale {
  const span = high - low || 1;
  return { low, high, at: (value) => from + ((value - low) / span) * (to - from) };
}

/** About five round numbers between low and high. */
export function ticks(low: number, high: number): number[] {
  const raw = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? 10 * power;
  const out: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++)
    out.push(Number((i * step).toPrecision(12)));
  return out;
}

function yAxis(y: Scale, label: string): string {
  const lines = ticks(y.low, y.high).map(
    (v) =>
      `<path d="M${margin.left},${round(y.at(v))}H${width - margin.right}" class="grid"/>` +
      `<text x="${margin.left - 8}" y="${round(y.at(v) + 4)}" text-anchor="end">${formatTick(v)}</text>`,
  );
  const middle = (margin.top + height - margin.bottom) / 2;
  return `${lines.join("")}<text transform="translate(16 ${middle}) rotate(-90)" text-anchor="middle">${escapeXml(label)}</text>`;
}

function frame(x: Scale, y: Scale, labels: { readonly x: string; readonly y: string }): string {
  const marks = ticks(x.low, x.high).map(
    (v) =>
      `<text x="${round(x.at(v))}" y="${height - margin.bottom + 18}" text-anchor="middle">${formatTick(v)}</text>`,
  );
  const title = `<text x="${(margin.left + width - margin.right) / 2}" y="${height - 8}" text-anchor="middle">${escapeXml(labels.x)}</text>`;
  return yAxis(y, labels.y) + marks.join("") + title;
}

function legend(names: readonly string[]): string {
  let left = margin.left;
  return names
    .map((name, i) => {
      const item =
        `<rect x="${left}" y="12" width="12" height="12" fill="${colours[i % colours.length]}"/>` +
        `<text x="${left + 17}" y="22">${escapeXml(name)}</text>`;
      left += 34 + name.length * 7;
      return item;
    })
    .join("");
}

function svg(title: string, body: string): string {
  const style =
    "text{font:12px system-ui,sans-serif;fill:#57606a}.grid{stroke:#8884;stroke-width:1}.axis{stroke:#57606a;fill:none}";
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeXml(title)}"><title>${escapeXml(title)}</title><style>${style}</style>${body}</svg>`;
}

function circle(x: number, y: number, colour: string): string {
  return `<circle cx="${round(x)}" cy="${round(y)}" r="3.5" fill="${colour}"/>`;
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function formatTick(value: number): string {
  return Math.abs(value) >= 10_000 ? `${value / 1000}k` : String(value);
}

/** Text made safe inside XML and HTML, attributes included. */
export function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
