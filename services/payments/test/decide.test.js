import assert from "node:assert/strict";
import { test } from "node:test";

import { decide } from "../src/decide.js";

test("an amount up to the limit is captured", () => {
  assert.equal(decide(1), "captured");
  assert.equal(decide(100_000), "captured");
});

test("what is no amount is declined", () => {
  for (const amount of [0, -1, 1.5, 2 ** 53, "5", null, undefined, NaN]) {
    assert.equal(decide(amount), "declined");
  }
});

test("an amount over the limit is declined", () => {
  assert.equal(decide(100_001), "declined");
});
