// Publishes what the database says is unpublished, until the broker has acknowledged it. Any number
// of replicas may do so: a payment is leased before it is sent, a killed replica's lease runs out,
// and the message id lets the broker drop what was sent twice.

import { headers } from "@nats-io/transport-node";

import { log } from "./log.js";
import { inTrace, traceparent } from "./trace.js";

const LEASE_MILLISECONDS = 5_000; // longer than one publish may take
const POLL_MILLISECONDS = 500;

export class Outbox {
  #payments;
  #broker;
  #wake = () => {};

  constructor(payments, broker) {
    this.#payments = payments;
    this.#broker = broker;
  }

  /** There is something to publish: do not wait for the next poll. */
  wake() {
    this.#wake();
  }

  async run(signal) {
    signal.addEventListener("abort", () => this.#wake());
    let failing = false;
    while (!signal.aborted) {
      const rested = this.#rest(); // before the work, so that a wake during it is not lost
      try {
        while (!signal.aborted && (await this.#publishNext()));
        failing = false;
      } catch (error) {
        if (!failing) log.warn("cannot publish payments, trying again", { error: error.message });
        failing = true;
      }
      if (!signal.aborted) await rested;
    }
  }

  async #publishNext() {
    const payment = await this.#payments.leaseUnpublished(LEASE_MILLISECONDS);
    if (!payment) return false;
    await inTrace(payment.outbox.traceparent, () => this.#publish(payment));
    return true;
  }

  async #publish({ _id: order_id, customer, amount, status }) {
    const subject = `payments.${status}`;
    const trace = headers();
    trace.set("traceparent", traceparent());
    try {
      await this.#broker.publish(
        subject,
        { order_id, customer, amount },
        { id: `payment-${order_id}`, headers: trace },
      );
    } catch (error) {
      await this.#broker.ensureStreams(); // in case it was the stream that is missing
      throw error;
    }
    await this.#payments.markPublished(order_id);
    log.info("published", { subject, order_id });
  }

  #rest() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, POLL_MILLISECONDS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
