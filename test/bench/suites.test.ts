import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseSuites, loadSuite, suiteNames } from "../../bench/suite.ts";
import { formatJson, formatTable } from "../../bench/table.ts";
import { plotPanels } from "../../src/cli/plot.ts";

test("every file in bench/suites is a suite with a summary", async () => {
  const names = suiteNames();
  assert.ok(names.includes("matmul") && names.includes("gpt2-124m"));
  for (const name of names) {
    const suite = await loadSuite(name);
    assert.equal(typeof suite.run, "function", name);
    assert.match(suite.summary, /^\S.{20,}/, name);
  }
});

test("names choose suites; those that run only by name are left out otherwise", async () => {
  const named = await chooseSuites(["scaling", "matmul"]);
  assert.deepEqual(named.map(([name]) => name).sort(), ["matmul", "scaling"]);
  const all = (await chooseSuites([])).map(([name]) => name);
  assert.ok(all.includes("matmul") && !all.includes("scaling"));
  await assert.rejects(chooseSuites(["matmull"]), /no bench "matmull".*did you mean matmul\?/);
});

const raced = { name: "a", value: 1234.5, unit: "GFLOP/s", peer: "p", peerValue: 1000, ratio: 1.2345, target: 1.5 };
const alone = { name: "b", value: Number.NaN, unit: "-", note: "no peer: reasons" };

test("a table says what was reached and why a peer is missing", () => {
  const [header, first, second] = formatTable([raced, { ...raced, target: 1.2 }, alone]).split("\n");
  assert.match(header as string, /^what +plinth +unit +peer +peer's +ratio +target$/);
  assert.match(first as string, /^a +1235 +GFLOP\/s +p +1000 +1\.23 x +1\.5 x +MISSED$/);
  assert.match(second as string, /1\.2 x +reached$/);
  assert.match(formatTable([alone]), /^b +- +- +- +- +- +- +no peer: reasons$/m);
});

test("the JSON document has every key of every row", () => {
  assert.deepEqual(JSON.parse(formatJson([raced, alone])), {
    results: [
      raced,
      { name: "b", value: null, unit: "-", peer: null, peerValue: null, ratio: null, target: null, note: alone.note },
    ],
  });
});

test("a plot draws lines on logarithmic axes, bands, and one legend entry per name", () => {
  const line = (dashed: boolean) => ({
    name: dashed ? "ideal & all" : "measured",
    colour: "blue" as const,
    dashed,
    points: [
      [1, 10],
      [10, 100],
      [100, 1000],
    ] as const,
  });
  const panel = {
    title: "T",
    x: { label: "x", log: true, ticks: [1, 10, 100] },
    y: { label: "y", log: true },
    lines: [line(true), line(false)],
    bands: [{ name: "band", colour: "orange" as const, points: [[1, 10, 20] as const, [100, 900, 1000] as const] }],
  };
  const svg = plotPanels("title", [panel, panel], { columns: 2 });
  assert.match(svg, /^<svg /);
  const paths = [...svg.matchAll(/<path d="M([\d.]+),([\d.]+)L([\d.]+),([\d.]+)L([\d.]+),([\d.]+)" fill="none"/g)];
  assert.equal(paths.length, 4);
  const [x0, y0, x1, y1, x2, y2] = (paths[0] as RegExpMatchArray).slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  assert.ok(Math.abs(x0 + x2 - 2 * x1) < 0.2 && Math.abs(y0 + y2 - 2 * y1) < 0.2, "a power law is a straight line");
  assert.ok(x2 > x0 && y2 < y0, "larger is to the right and up");
  assert.equal(svg.split("ideal &amp; all").length, 2);
  assert.equal(svg.split(">band<").length, 2);
});
