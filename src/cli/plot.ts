/** Small line plots side by side as one standalone SVG: no script, no external file, readable in light and dark. */

export interface Line {
  readonly name: string;
  /** [x, y] in order of x. */
  readonly points: readonly (readonly [x: number, y: number])[];
  readonly colour: Colour;
  /** An expectation rather than a measurement. */
  readonly dashed?: boolean;
  /** Mark the points; "only": draw no line between them. */
  readonly dots?: boolean | "only";
}

/** The area between two curves over the same x. */
export interface Band {
  readonly name: string;
  readonly points: readonly (readonly [x: number, low: number, high: number])[];
  readonly colour: Colour;
}

export interface Axis {
  readonly label: string;
  readonly log?: boolean;
  /** Where the labels stand; default round numbers. */
  readonly ticks?: readonly number[];
  readonly format?: (value: number) => string;
}

export interface Panel {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
  readonly bands?: readonly Band[];
}

export type Colour = keyof typeof colours;
const colours = {
  blue: "#3366cc",
  orange: "#dc6b19",
  green: "#2b8a57",
  grey: "#8a929b",
  purple: "#8a3fa0",
  red: "#b02a37",
  teal: "#1597a5",
  brown: "#8c6239",
} as const;

/** Colours for lines of one kind, in this order. */
export const palette: readonly Colour[] = ["blue", "orange", "green", "purple", "red", "teal", "brown"];

const margin = { left: 62, right: 16, top: 34, bottom: 46 };

/** Panels in rows of `columns`, a legend of all names at the bottom. `size` is that of a panel in pixels. */
export function plotPanels(
  title: string,
  panels: readonly Panel[],
  { columns, size = [360, 260] }: { columns: number; size?: readonly [width: number, height: number] },
): string {
  const [width, height] = size;
  const rows = Math.ceil(panels.length / columns);
  const drawn = panels.map((panel, i) => {
    const [x, y] = [(i % columns) * width, Math.floor(i / columns) * height];
    return `<g transform="translate(${x} ${y})">${drawPanel(panel, width, height)}</g>`;
  });
  const marks = new Map<string, Line | Band>();
  for (const { lines, bands = [] } of panels) for (const mark of [...lines, ...bands]) marks.set(mark.name, mark);
  const { drawn: entries, lines: legendLines } = drawLegend([...marks.values()], columns * width - margin.left);
  const legend = `<g transform="translate(${margin.left} ${rows * height + 6})">${entries}</g>`;
  const legendHeight = 14 + 20 * legendLines;
  const style =
    "text{font:12px system-ui,sans-serif;fill:#768390}.title{font-weight:600}.grid{stroke:#8884;stroke-width:1}";
  const box = `0 0 ${columns * width} ${rows * height + legendHeight}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box}" role="img" aria-label="${escapeXml(title)}"><title>${escapeXml(title)}</title><style>${style}</style>\n${drawn.join("\n")}\n${legend}\n</svg>\n`;
}

interface Scale {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

function drawPanel({ title, x, y, lines, bands = [] }: Panel, width: number, height: number): string {
  const xs = [...lines.flatMap((l) => l.points.map((p) => p[0])), ...bands.flatMap((b) => b.points.map((p) => p[0]))];
  const ys = [
    ...lines.flatMap((l) => l.points.map((p) => p[1])),
    ...bands.flatMap((b) => b.points.flatMap((p) => [p[1], p[2]])),
  ];
  const [left, right, top, bottom] = [margin.left, width - margin.right, margin.top, height - margin.bottom];
  const across = makeScale(x, xs, left, right);
  const up = makeScale(y, ys, bottom, top);
  const place = (px: number, py: number): string => `${round(across.at(px))},${round(up.at(py))}`;
  const path = (points: readonly (readonly [number, number])[]): string =>
    points.map(([px, py], i) => `${i === 0 ? "M" : "L"}${place(px, py)}`).join("");
  const areas = bands.map(({ points, colour }) => {
    const back = [...points].reverse().map(([px, , high]) => `L${place(px, high)}`);
    const outline = path(points.map(([px, low]) => [px, low] as const)) + back.join("");
    return `<path d="${outline}Z" fill="${colours[colour]}" fill-opacity="0.18"/>`;
  });
  const curves = lines.map(({ points, colour, dashed, dots }) => {
    const dash = dashed === true ? ' stroke-dasharray="5 4"' : "";
    const marks =
      dots !== undefined && dots !== false
        ? points.map(([px, py]) => circle(across.at(px), up.at(py), colours[colour]))
        : [];
    const curve = `<path d="${path(points)}" fill="none" stroke="${colours[colour]}" stroke-width="1.8"${dash}/>`;
    return (dots === "only" ? "" : curve) + marks.join("");
  });
  const horizontal = up.ticks.map(
    (v) =>
      `<path d="M${left},${round(up.at(v))}H${right}" class="grid"/>` +
      `<text x="${left - 7}" y="${round(up.at(v) + 4)}" text-anchor="end">${(y.format ?? short)(v)}</text>`,
  );
  const vertical = across.ticks.map(
    (v) => `<text x="${round(across.at(v))}" y="${bottom + 17}" text-anchor="middle">${(x.format ?? short)(v)}</text>`,
  );
  const middle = (top + bottom) / 2;
  return [
    `<text x="${left}" y="20" class="title">${escapeXml(title)}</text>`,
    ...horizontal,
    ...vertical,
    `<text x="${(left + right) / 2}" y="${height - 10}" text-anchor="middle">${escapeXml(x.label)}</text>`,
    `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${escapeXml(y.label)}</text>`,
    ...areas,
    ...curves,
  ].join("");
}

function makeScale({ log, ticks }: Axis, values: readonly number[], from: number, to: number): Scale {
  const map = log === true ? Math.log : (value: number): number => value;
  const [smallest, largest] = [Math.min(...values), Math.max(...values)];
  const pad = (map(largest) - map(smallest) || 1) * 0.04;
  const [low, high] = [map(smallest) - pad, map(largest) + pad];
  const at = (value: number): number => from + ((map(value) - low) / (high - low)) * (to - from);
  const shown = ticks ?? (log === true ? logTicks(smallest, largest) : linearTicks(smallest, largest));
  return { at, ticks: shown.filter((v) => map(v) >= low - 1e-9 && map(v) <= high + 1e-9) };
}

/** About five round numbers. */
function linearTicks(low: number, high: number): number[] {
  const raw = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= 0.8 * raw) ?? 10 * power;
  const out: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** Powers of ten, with 2 and 5 times these where there are few. */
function logTicks(low: number, high: number): number[] {
  const factors = high / low > 1e4 ? [1] : high / low > 60 ? [1, 3] : [1, 2, 5];
  const out: number[] = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const f of factors) out.push(Number((f * 10 ** e).toPrecision(6)));
  return out.filter((v) => v >= low * 0.9 && v <= high * 1.1);
}

/** Names side by side in as many lines as they need. */
function drawLegend(marks: readonly (Line | Band)[], width: number): { drawn: string; lines: number } {
  let [left, top] = [0, 0];
  const drawn = marks
    .map((mark) => {
      const advance = 50 + mark.name.length * 6.6;
      if (left > 0 && left + advance > width) [left, top] = [0, top + 20];
      const colour = colours[mark.colour];
      const dash = "dashed" in mark && mark.dashed === true ? ' stroke-dasharray="5 4"' : "";
      const isBand = mark.points.some((point) => point.length === 3);
      const sign = isBand
        ? `<rect x="${left}" y="${top + 3}" width="24" height="10" fill="${colour}" fill-opacity="0.18"/>`
        : "dots" in mark && mark.dots === "only"
          ? circle(left + 12, top + 8, colour)
          : `<path d="M${left},${top + 8}h24" stroke="${colour}" stroke-width="2"${dash}/>`;
      const text = `<text x="${left + 30}" y="${top + 12}">${escapeXml(mark.name)}</text>`;
      left += advance;
      return sign + text;
    })
    .join("");
  return { drawn, lines: top / 20 + 1 };
}

function circle(x: number, y: number, colour: string): string {
  return `<circle cx="${round(x)}" cy="${round(y)}" r="3" fill="${colour}"/>`;
}

/** 8192 as 8k, 0.25 as it is. */
function short(value: number): string {
  if (value >= 1024 && value % 1024 === 0) return `${value / 1024}k`;
  return value >= 10_000 ? `${value / 1000}k` : String(value);
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
