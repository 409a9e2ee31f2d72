// What callers see.

import express from "express";
import { MongoNetworkError, MongoNotConnectedError, MongoServerSelectionError } from "mongodb";

import { HttpError } from "./errors.js";
import { log } from "./log.js";
import { inTrace } from "./trace.js";

const DATABASE_AWAY = [MongoNetworkError, MongoNotConnectedError, MongoServerSelectionError];
const HEALTH_MILLISECONDS = 800;

export function createApp({ broker, payments, identity }) {
  const app = express();
  app.disable("x-powered-by");
  app.use(traced);

  // The broker is told of and not asked for: payments are shown while it is away.
  app.get("/healthz", async (request, response) => {
    try {
      await within(HEALTH_MILLISECONDS, payments.check());
      response.json({ status: "ok", broker: broker.state });
    } catch (error) {
      response.status(503).json({ status: "unavailable", reason: error.message, broker: broker.state });
    }
  });

  app.get("/payments/:orderId", async (request, response) => {
    const customer = await identity.customer(request.get("authorization"));
    const payment = await payments.find(request.params.orderId, customer);
    if (!payment) throw new HttpError(404, "no such payment");
    const { _id: order_id, amount, status, created_at } = payment;
    response.json({ order_id, amount, status, created_at });
  });

  app.use(() => {
    throw new HttpError(404, "no such page");
  });
  app.use(answerError);
  return app;
}

function traced(request, response, next) {
  inTrace(request.get("traceparent"), () => {
    const started = performance.now();
    const { method, path } = request;
    response.on("finish", () => {
      if (path === "/healthz") return; // asked many times a second
      const duration_ms = Math.round(performance.now() - started);
      log.info("request", { method, path, status: response.statusCode, duration_ms });
    });
    next();
  });
}

// Express knows an error handler by its four arguments.
function answerError(error, request, response, next) {
  if (response.headersSent) return next(error);
  if (DATABASE_AWAY.some((type) => error instanceof type)) {
    log.warn("cannot reach the database", { error: error.message });
    return response.status(503).json({ error: "cannot reach the database" });
  }
  const status = error.status ?? 500;
  if (status === 503) log.warn(error.message);
  else if (status >= 500) log.error("cannot answer", { error: error.message, stack: error.stack });
  if (status === 401) response.set("WWW-Authenticate", "Bearer");
  response.status(status).json({ error: status === 500 ? "internal error" : error.message });
}

function within(milliseconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
