// W3C trace context: which request or event this code works for. It follows the code through
// `await`, so that log lines and outgoing calls find it without being handed it.

import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";

const storage = new AsyncLocalStorage();
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** Runs `work` as a new span of the trace that `traceparent` names, or of a new trace. */
export function inTrace(traceparent, work) {
  const parent = parse(traceparent);
  const span = {
    traceId: parent?.traceId ?? randomBytes(16).toString("hex"),
    spanId: randomBytes(8).toString("hex"),
    flags: parent?.flags ?? "01",
  };
  return storage.run(span, work);
}

export function traceId() {
  return storage.getStore()?.traceId;
}

/** The header that tells the next service which trace it works for; undefined outside of one. */
export function traceparent() {
  const span = storage.getStore();
  return span && `00-${span.traceId}-${span.spanId}-${span.flags}`;
}

function parse(header) {
  const match = TRACEPARENT.exec(header ?? "");
  if (!match) return undefined;
  const [, version, traceId, spanId, flags, rest] = match;
  const valid =
    version !== "ff" && !(version === "00" && rest) && !/^0+$/.test(traceId) && !/^0+$/.test(spanId);
  return valid ? { traceId, flags } : undefined;
}
