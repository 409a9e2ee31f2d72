// What we know of payments: one document per order, which also carries the event that is still to
// be published. Decision and event are one write, so no kill can come between them.
//
//   { _id: order id, customer, amount, status, created_at,
//     outbox: { leased_until, traceparent } }        <- gone once the broker has acknowledged

import { MongoError } from "mongodb";

const LIMIT = 100_000;
const DUPLICATE_KEY = 11000;

export function decide(amount) {
  return amount > LIMIT ? "declined" : "captured";
}

export class Payments {
  #collection;
  #indexed = false;

  constructor(collection) {
    this.#collection = collection;
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

  /** Decides an order once; the same order again changes nothing. */
  async settle(order, traceparent) {
    const payment = {
      _id: order.order_id,
      customer: order.customer,
      amount: order.amount,
      status: decide(order.amount),
      created_at: new Date(),
      outbox: { leased_until: new Date(0), traceparent },
    };
    try {
      await this.#collection.insertOne(payment);
      return payment;
    } catch (error) {
      if (error instanceof MongoError && error.code === DUPLICATE_KEY) return null;
      throw error;
    }
  }

  find(orderId, customer) {
    return this.#collection.findOne({ _id: orderId, customer });
  }

  /** Takes one unpublished payment for a while, so that no other replica publishes it meanwhile. */
  leaseUnpublished(milliseconds) {
    const now = Date.now();
    return this.#collection.findOneAndUpdate(
      { "outbox.leased_until": { $lte: new Date(now) } },
      { $set: { "outbox.leased_until": new Date(now + milliseconds) } },
      { sort: { "outbox.leased_until": 1 }, returnDocument: "after" },
    );
  }

  markPublished(orderId) {
    return this.#collection.updateOne({ _id: orderId }, { $unset: { outbox: "" } });
  }
}
