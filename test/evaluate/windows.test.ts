import assert from "node:assert/strict";
import { test } from "node:test";
import { cutWindows } from "../../src/evaluate/encode.ts";
import { ignoreTarget } from "../../src/generate/index.ts";

test("every token after the first is scored once, with at least the overlap before it", () => {
  const room = 8;
  for (const overlap of [0, 1, 4, 7]) {
    for (let length = 1; length <= 40; length++) {
      const sequence = Int32Array.from({ length }, (_, i) => 100 + i);
      const scored = new Array<number>(length).fill(0);
      for (const { tokens, targets } of cutWindows(sequence, room, overlap)) {
        assert.ok(tokens.length >= 1 && tokens.length <= room);
        assert.equal(tokens.length, targets.length);
        for (const [i, target] of targets.entries()) {
          if (target === ignoreTarget) continue;
          assert.equal(target, (tokens[i] as number) + 1, "the target is the next token of the text");
          const position = target - 100;
          scored[position] = (scored[position] ?? 0) + 1;
          assert.ok(i + 1 >= Math.min(overlap + 1, position), `${i + 1} tokens before position ${position}`);
        }
      }
      assert.deepEqual(scored, [0, ...new Array<number>(length - 1).fill(1)], `length ${length}, overlap ${overlap}`);
    }
  }
});

test("a text that fits is one window", () => {
  const windows = cutWindows(Int32Array.of(1, 2, 3), 8, 4);
  assert.deepEqual(windows, [{ tokens: Int32Array.of(1, 2), targets: Int32Array.of(2, 3) }]);
});
