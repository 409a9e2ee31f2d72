// Publishes what the database says is unpublished, until the broker has acknowledged it. Any number
// of replicas may do so: a payment is leased before it is sent, a killed replica's lease runs out,
// and the message id lets the broker drop what was sent twice.

import { setTimeout as sleep } from "node:timers/promises";
import { headers } from "@nats-io/transport-node";

import { log } from "./log.js";
import { inTrace, traceparent } from "./trace.js";

const POLL_MILLISECONDS = 1_000;
const BATCH = 50;

export class Outbox {
  #payments;
  #broker;

  constructor(payments, broker) {
    this.#payments = payments;
    this.#broker = broker;
  }

  /** Publishes the event of a payment that is leased to us. */
  async publish({ _id: order_id, customer, amount, status }) {
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

  /** Publishes, for as long as the service lives, what was left: by a kill, or while NATS was away. */
  async run(signal) {
    let failing = false;
    while (!signal.aborted) {
      try {
        while (!signal.aborted && (await this.#publishLeft()) === BATCH);
        failing = false;
      } catch (error) {
        if (!failing) log.warn("cannot publish payments, trying again", { error: error.message });
        failing = true;
      }
      await sleep(POLL_MILLISECONDS, undefined, { signal }).catch(() => {});
    }
  }

  async #publishLeft() {
    const left = await this.#payments.findUnpublished(BATCH);
    for (const payment of left) {
      if (await this.#payments.lease(payment)) {
        await inTrace(payment.outbox.traceparent, () => this.publish(payment));
      }
    }
    return left.length;
  }
}
