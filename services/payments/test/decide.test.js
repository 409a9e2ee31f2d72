import assert from "node:assert/strict";
import { test } from "node:test";

import { decide } from "../src/decide.js";

test("an amount up to the limit is captured", () => {
  assert.equal(decide(1), "captured");
  assert.equal(decide(100_000), "captured");
});

test("an amount over the limit is declined", () => {
  assert.equal(decide(100_001), "declined");
});
