import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bfloat16ToNumber,
  decodeFloat32,
  encodeHost,
  float16ToNumber,
  numberToBfloat16,
  numberToFloat16,
} from "../../src/engine/ir/convert.ts";

test("every bfloat16 and float16 bit pattern survives a round trip", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const b = bfloat16ToNumber(bits);
    if (Number.isNaN(b)) assert.ok(Number.isNaN(bfloat16ToNumber(numberToBfloat16(b))));
    else assert.equal(numberToBfloat16(b), bits);
    const f = float16ToNumber(bits);
    if (Number.isNaN(f)) assert.ok(Number.isNaN(float16ToNumber(numberToFloat16(f))));
    else assert.equal(numberToFloat16(f), bits);
  }
});

test("values between two float16 neighbours round to the nearest, ties to even", () => {
  for (let bits = 0; bits < 0x7bff; bits++) {
    const [low, high] = [float16ToNumber(bits), float16ToNumber(bits + 1)];
    const middle = (low + high) / 2;
    const even = bits % 2 === 0 ? bits : bits + 1;
    assert.equal(numberToFloat16(middle), even);
    assert.equal(numberToFloat16(low + (high - low) * 0.25), bits);
    assert.equal(numberToFloat16(-(low + (high - low) * 0.75)), (bits + 1) | 0x8000);
  }
});

test("bfloat16: ties to even, overflow to infinity", () => {
  assert.equal(numberToBfloat16(1 + 2 ** -8), 0x3f80);
  assert.equal(numberToBfloat16(1 + 3 * 2 ** -8), 0x3f82);
  assert.equal(numberToBfloat16(1 + 2 ** -8 + 2 ** -20), 0x3f81);
  assert.equal(numberToBfloat16(3.4e38), 0x7f80);
  assert.equal(numberToBfloat16(Number.NEGATIVE_INFINITY), 0xff80);
  assert.equal(numberToFloat16(65519.99), 0x7bff);
  assert.equal(numberToFloat16(65520), 0x7c00);
});

test("host arrays convert as whole", () => {
  const values = [0, -1.5, 65504, 2 ** -24];
  assert.deepEqual(Array.from(decodeFloat32("float16", encodeHost("float16", values))), values);
  assert.deepEqual(Array.from(decodeFloat32("bfloat16", encodeHost("bfloat16", [1, -2.5, 2 ** 100]))), [
    1,
    -2.5,
    2 ** 100,
  ]);
  assert.deepEqual(Array.from(encodeHost("int32", [1.9, -1.9])), [1, -1]);
  assert.deepEqual(Array.from(encodeHost("bool", [0, 3, -1])), [0, 1, 1]);
});
