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

const TIMEOUT_MILLISECONDS = 2_000;

export class Broker {
  #connection;
  #online = false;
  #disconnected = () => {};

  constructor(url) {
    const { host, username, password } = new URL(url);
    connect({
      servers: host,
      name: "payments",
      user: username ? decodeURIComponent(username) : undefined,
      pass: password ? decodeURIComponent(password) : undefined,
      waitOnFirstConnect: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: 5_000,
    }).then(
      (connection) => this.#follow(connection),
      (error) => log.error("cannot use NATS_URL", { error: error.message }),
    );
  }

  get state() {
    return this.#online ? "connected" : "disconnected";
  }

  /** Resolves once the message is stored; the same `id` again is stored once. */
  async publish(subject, payload, { id, headers }) {
    await jetstream(this.#connected()).publish(subject, JSON.stringify(payload), {
      msgID: id,
      headers,
      timeout: TIMEOUT_MILLISECONDS,
    });
  }

  async ensureStreams() {
    const manager = await this.#manager();
    for (const stream of STREAMS) {
      await manager.streams.add(stream).catch((error) => {
        if (error.code !== STREAM_EXISTS) throw error;
      });
    }
  }

  async ordersConsumer() {
    await this.ensureStreams();
    await (await this.#manager()).consumers.add("ORDERS", ORDERS_CONSUMER);
    return jetstream(this.#connected()).consumers.get("ORDERS", "payments");
  }

  /** Calls back when the connection was lost: what was asked before gets no answer any more. */
  onDisconnect(callback) {
    this.#disconnected = callback;
  }

  async close() {
    await this.#connection?.close();
  }

  /** The connection; throws at once while there is none, where the client would wait. */
  #connected() {
    if (!this.#online) throw new Error("not connected to NATS");
    return this.#connection;
  }

  #manager() {
    return jetstreamManager(this.#connected(), { checkAPI: false, timeout: TIMEOUT_MILLISECONDS });
  }

  async #follow(connection) {
    this.#connection = connection;
    this.#online = true;
    log.info("connected to NATS", { server: connection.getServer() });
    for await (const { type } of connection.status()) {
      if (type === "disconnect") {
        this.#online = false;
        log.warn("lost NATS");
        this.#disconnected();
      } else if (type === "reconnect") {
        this.#online = true;
        log.info("found NATS again");
      }
    }
  }
}
