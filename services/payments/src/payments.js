// What we know of payments: one document per order, which also carries the event that is still to
// be published. Decision and event are one write, so no kill can come between them.
//
//   { _id: order id, customer, amount, status, created_at,
//     outbox: { leased_until, traceparent } }        <- gone once the broker has acknowledged

import { setTimeout as sleep } from "node:timers/promises";
import { MongoError, MongoNotConnectedError } from "mongodb";

import { decide } from "./decide.js";

const LEASE_MILLISECONDS = 5_000; // longer than one publish may take
const RETRY_MILLISECONDS = 200;
const DUPLICATE_KEY = 11000;

export class Payments {
  #client;
  #connected = false;
  #indexed = false;

  constructor(client) {
    this.#client = client;
  }

  /** Connects, however late the database comes. Once connected, the driver reconnects by itself. */
  async connect(signal) {
    while (!signal.aborted && !this.#connected) {
      try {
        await this.#client.connect();
        this.#connected = true;
      } catch {
        await sleep(RETRY_MILLISECONDS, undefined, { signal }).catch(() => {});
      }
    }
  }

  /** Asks the database a real question, and makes the index wherever it is missing. */
  async check() {
    try {
      if (!this.#indexed) {
        await this.#collection.createIndex({ "outbox.leased_until": 1 }, { sparse: true });
        this.#indexed = true;
      }
      await this.#collection.findOne({}, { projection: { _id: 1 } });
    } catch (error) {
      this.#indexed = false; // another database may come back in its place
      throw error;
    }
  }

  /**
   * Decides an order once, and leases the event about it to the caller, who is to publish it.
   * Resolves to null where the order was decided before.
   */
  async settle(order, traceparent) {
    const payment = {
      _id: order.order_id,
      customer: order.customer,
      amount: order.amount,
      status: decide(order.amount),
      created_at: new Date(),
      outbox: { leased_until: leaseEnd(), traceparent },
    };
    try {
      await this.#collection.insertOne(payment);
      return payment;
    } catch (error) {
      if (error instanceof MongoError && error.code === DUPLICATE_KEY) return null;
      throw error;
    }
  }

  async find(orderId, customer) {
    return this.#collection.findOne({ _id: orderId, customer });
  }

  /** Payments whose event nobody is publishing at the moment, longest waiting first. */
  findUnpublished(limit) {
    return this.#collection
      .find({ "outbox.leased_until": { $lte: new Date() } })
      .sort({ "outbox.leased_until": 1 })
      .limit(limit)
      .toArray();
  }

  /** Takes the event of a payment for a while; false where another replica was faster. */
  async lease({ _id, outbox }) {
    const { modifiedCount } = await this.#collection.updateOne(
      { _id, "outbox.leased_until": outbox.leased_until },
      { $set: { "outbox.leased_until": leaseEnd() } },
    );
    return modifiedCount === 1;
  }

  markPublished(orderId) {
    return this.#collection.updateOne({ _id: orderId }, { $unset: { outbox: "" } });
  }

  get #collection() {
    // Without this the driver would begin to connect, and a failed first attempt is for good.
    if (!this.#connected) throw new MongoNotConnectedError("not connected to the database yet");
    return this.#client.db().collection("payments");
  }
}

function leaseEnd() {
  return new Date(Date.now() + LEASE_MILLISECONDS);
}
