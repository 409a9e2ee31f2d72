// The NATS connection and what must exist on the server. Made again whenever it is missing: either
// service may come first, and a broker may come back with an empty store.

import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, nanos } from "@nats-io/transport-node";

import { log } from "./log.js";

// Both services make both streams; the definitions are the same.
const STREAMS = [
  { name: "ORDERS", subjects: ["orders.>"] },
  { name: "PAYMENTS", subjects: ["payments.>"] },
];
const STREAM_EXISTS = 10058;

const ORDERS_CONSUMER = {
  durable_name: "payments",
  filter_subject: "orders.created",
  ack_policy: "explicit",
  ack_wait: nanos(5_000), // how long a killed replica's message waits for another one
};

export class Broker {
  #connecting;
  #connection;

  constructor(url) {
    const { host, username, password } = new URL(url);
    this.#connecting = connect({
      servers: host,
      name: "payments",
      user: username ? decodeURIComponent(username) : undefined,
      pass: password ? decodeURIComponent(password) : undefined,
      waitOnFirstConnect: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: 5_000,
    }).then((connection) => this.#connected(connection));
  }

  /** Asks JetStream a real question. */
  async check() {
    if (!this.#connection) throw new Error("not connected to NATS");
    const manager = await jetstreamManager(this.#connection, { checkAPI: false, timeout: 1_000 });
    await manager.getAccountInfo();
  }

  /** Resolves once the message is stored; the same `id` again is stored once. */
  async publish(subject, payload, { id, headers }) {
    const connection = await this.#connecting;
    await jetstream(connection).publish(subject, JSON.stringify(payload), {
      msgID: id,
      headers,
      timeout: 2_000,
    });
  }

  async ensureStreams() {
    const manager = await jetstreamManager(await this.#connecting, { checkAPI: false });
    for (const stream of STREAMS) {
      await manager.streams.add(stream).catch((error) => {
        if (error.code !== STREAM_EXISTS) throw error;
      });
    }
    return manager;
  }

  async ordersConsumer() {
    const manager = await this.ensureStreams();
    await manager.consumers.add("ORDERS", ORDERS_CONSUMER);
    return jetstream(await this.#connecting).consumers.get("ORDERS", "payments");
  }

  /** Calls back whenever the connection was lost: what was asked before gets no answer any more. */
  async onDisconnect(callback) {
    const connection = await this.#connecting;
    for await (const { type } of connection.status()) {
      if (type === "disconnect") callback();
    }
  }

  async close() {
    await this.#connection?.close();
  }

  #connected(connection) {
    this.#connection = connection;
    log.info("connected to NATS", { server: connection.getServer() });
    this.#report(connection);
    return connection;
  }

  async #report(connection) {
    for await (const { type } of connection.status()) {
      if (type === "disconnect") log.warn("lost NATS");
      if (type === "reconnect") log.info("found NATS again");
    }
  }
}
