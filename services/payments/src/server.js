// The payments service: decides whether an order is paid, and tells everybody who wants to know.
//
//   orders.created --consumer--> one document per order --outbox--> payments.captured | .declined
//
// It starts before its database or broker are there and finds them again whenever they were away.
// /healthz answers 503 while the database is away.

import { once } from "node:events";
import { MongoClient } from "mongodb";

import { Broker } from "./broker.js";
import { consumeOrders } from "./consumer.js";
import { createApp } from "./http.js";
import { Identity } from "./identity.js";
import { log } from "./log.js";
import { Outbox } from "./outbox.js";
import { Payments } from "./payments.js";

function required(name) {
  const value = process.env[name];
  if (!value) {
    log.error(`cannot start payments: ${name} is not set`);
    process.exit(1);
  }
  return value;
}

const host = process.env.HOST || "127.0.0.1";
const port = Number(required("PORT"));
const mongo = new MongoClient(required("DATABASE_URL"), {
  appName: "payments",
  serverSelectionTimeoutMS: 1_000,
  socketTimeoutMS: 10_000,
  // A write is acknowledged when it is in the journal: what we answered survives a kill.
  writeConcern: { w: "majority", journal: true },
});
const broker = new Broker(required("NATS_URL"));
const identity = new Identity(required("AUTH_URL"));
const payments = new Payments(mongo);
const outbox = new Outbox(payments, broker);

const stopping = new AbortController();
const work = payments
  .connect(stopping.signal)
  .then(() =>
    Promise.all([
      consumeOrders(broker, payments, outbox, stopping.signal),
      outbox.run(stopping.signal),
    ]),
  );

const server = createApp({ broker, payments, identity }).listen(port, host);
server.on("listening", () => log.info("listening", { host, port }));
server.on("error", (error) => {
  log.error("cannot listen", { host, port, error: error.message });
  process.exit(1);
});

async function stop(signal) {
  log.info("stopping", { signal });
  stopping.abort();
  server.close();
  await Promise.all([once(server, "close"), work]);
  await Promise.all([broker.close(), mongo.close()]);
  log.info("stopped");
  process.exit(0);
}
process.once("SIGTERM", stop);
process.once("SIGINT", stop);
