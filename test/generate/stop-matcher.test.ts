import assert from "node:assert/strict";
import { test } from "node:test";
import { StopMatcher } from "../../src/generate/stop-matcher.ts";

function feed(
  stops: readonly string[],
  pieces: readonly string[],
): { shown: string[]; stopped: boolean; rest: string } {
  const matcher = new StopMatcher(stops);
  const shown: string[] = [];
  for (const piece of pieces) {
    const { text, stopped } = matcher.push(piece);
    shown.push(text);
    if (stopped) return { shown, stopped, rest: "" };
  }
  return { shown, stopped: false, rest: matcher.flush() };
}

test("a stop string spread over pieces is never shown", () => {
  assert.deepEqual(feed(["\n\nUser:"], ["Hi", ".\n", "\nUs", "er: more"]), {
    shown: ["Hi", ".", "", ""],
    stopped: true,
    rest: "",
  });
});

test("text that only looked like a stop string is shown once that is known", () => {
  assert.deepEqual(feed(["abcd"], ["xab", "cx", "ab"]), { shown: ["x", "abcx", ""], stopped: false, rest: "ab" });
});

test("overlapping beginnings are not missed", () => {
  assert.deepEqual(feed(["aab"], ["a", "a", "a", "b!"]), { shown: ["", "", "a", ""], stopped: true, rest: "" });
});

test("the earliest of several stop strings ends the text", () => {
  assert.deepEqual(feed(["world", "lo"], ["hello world"]).shown, ["hel"]);
});

test("without stop strings everything passes at once", () => {
  assert.deepEqual(feed([], ["a", "b"]), { shown: ["a", "b"], stopped: false, rest: "" });
});
