// One JSON object per line on stdout, with the trace it belongs to.

import { traceId } from "./trace.js";

function write(level, msg, fields) {
  const line = { time: new Date().toISOString(), level, msg, service: "payments", trace_id: traceId() };
  process.stdout.write(`${JSON.stringify({ ...line, ...fields })}\n`);
}

export const log = {
  info: (msg, fields) => write("INFO", msg, fields),
  warn: (msg, fields) => write("WARN", msg, fields),
  error: (msg, fields) => write("ERROR", msg, fields),
};
