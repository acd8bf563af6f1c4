import assert from "node:assert/strict";
import { test } from "node:test";
import { barChart, escapeXml, lineChart, stackCharts, ticks } from "../../src/cli/quickstart/chart.ts";

test("ticks are round, few and inside the range", () => {
  assert.deepEqual(ticks(0, 10), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  for (const [low, high] of [
    [0.3, 7.1],
    [0, 1234],
    [-2, 3],
  ] as const) {
    const marks = ticks(low, high);
    assert.ok(marks.length >= 3 && marks.length <= 8, `${marks}`);
    assert.ok(marks.every((mark) => mark >= low - 1e-9 && mark <= high + 1e-9));
  }
});

test("a line chart draws every point at its place and escapes names", () => {
  const chart = lineChart(
    [
      {
        name: "a<b",
        points: [
          [0, 0],
          [10, 2],
        ],
      },
    ],
    { title: "t", x: "step", y: "loss" },
  );
  assert.match(chart, /a&lt;b/);
  assert.doesNotMatch(chart, /a<b/);
  const path = /<path d="M([\d.]+),([\d.]+)L([\d.]+),([\d.]+)"/.exec(chart);
  assert.ok(path !== null);
  assert.ok(Number(path[3]) > Number(path[1]), "x grows to the right");
  assert.ok(Number(path[4]) < Number(path[2]), "y grows upwards");
});

test("a bar chart's heights are in proportion to the values", () => {
  const bars = [
    { name: "base", value: 4, standardError: 0.1 },
    { name: "adapted", value: 2, standardError: 0.1 },
  ];
  const chart = barChart([{ name: "task", bars }], { title: "t", y: "bits per byte" });
  const heights = [...chart.matchAll(/height="([\d.]+)" fill="#[^"]+" fill-opacity/g)].map((m) => Number(m[1]));
  assert.equal(heights.length, 2);
  assert.ok(Math.abs((heights[0] as number) / (heights[1] as number) - 2) < 0.02, `${heights}`);
});

test("markup in text is escaped", () => {
  assert.equal(escapeXml('<a href="x">&</a>'), "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;");
});

test("charts are stacked without overlap", () => {
  const chart = lineChart([], { title: "t", x: "x", y: "y" });
  const tops = [...stackCharts([chart, chart]).matchAll(/<svg y="(\d+)" width="\d+" height="(\d+)"/g)].map((m) => [
    Number(m[1]),
    Number(m[2]),
  ]);
  assert.equal(tops.length, 2);
  const [first, second] = tops as [[number, number], [number, number]];
  assert.ok(second[0] >= first[0] + first[1]);
});
