import assert from "node:assert/strict";
import { test } from "node:test";

import { inTrace, traceId, traceparent } from "../src/trace.js";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

test("a trace goes on with a span of our own", () => {
  const next = inTrace(`00-${TRACE}-${SPAN}-01`, traceparent);

  assert.match(next, new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`));
  assert.ok(!next.includes(SPAN));
});

test("a trace follows the code through await", async () => {
  const id = await inTrace(`00-${TRACE}-${SPAN}-00`, async () => {
    await Promise.resolve();
    return traceId();
  });

  assert.equal(id, TRACE);
});

for (const header of [
  undefined,
  "",
  "nonsense",
  `00-${TRACE}-${SPAN}`,
  `00-${"0".repeat(32)}-${SPAN}-01`,
  `00-${TRACE}-${"0".repeat(16)}-01`,
  `ff-${TRACE}-${SPAN}-01`,
  `00-${TRACE}-${SPAN}-01-more`,
  `00-${TRACE.toUpperCase()}-${SPAN}-01`,
]) {
  test(`${header} begins a new trace`, () => {
    const id = inTrace(header, traceId);

    assert.match(id, /^[0-9a-f]{32}$/);
    assert.notEqual(id, TRACE);
  });
}

test("outside of a trace there is none", () => {
  assert.equal(traceparent(), undefined);
});
