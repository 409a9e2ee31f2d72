// Takes orders.created off the stream and acknowledges each after the decision is in the database:
// a kill before the acknowledgement brings the message again, and deciding twice changes nothing.

import { setTimeout as sleep } from "node:timers/promises";

import { log } from "./log.js";
import { inTrace, traceparent } from "./trace.js";

const BATCH = { max_messages: 10, expires: 2_000 };
const RETRY_MILLISECONDS = 500;

export async function consumeOrders(broker, payments, outbox, signal) {
  let messages;
  const abandon = () => messages?.stop();
  signal.addEventListener("abort", abandon);
  broker.onDisconnect(abandon);

  let consumer;
  let failing = false;
  while (!signal.aborted) {
    try {
      consumer ??= await broker.ordersConsumer();
      messages = await consumer.fetch(BATCH);
      failing = false;
      for await (const message of messages) {
        await inTrace(message.headers?.get("traceparent"), () => handle(message, payments, outbox));
        if (signal.aborted) break; // the rest of the batch goes to another replica
      }
    } catch (error) {
      consumer = undefined;
      if (!failing) log.warn("cannot read orders, trying again", { error: error.message });
      failing = true;
      await sleep(RETRY_MILLISECONDS, undefined, { signal }).catch(() => {});
    }
  }
}

async function handle(message, payments, outbox) {
  const order = parse(message);
  if (!order) {
    log.error("dropped an order that cannot be read", { sequence: message.seq });
    message.term("cannot be read");
    return;
  }
  let payment;
  try {
    payment = await payments.settle(order, traceparent());
  } catch (error) {
    log.warn("cannot store the payment, trying again", { order_id: order.order_id, error: error.message });
    message.nak(RETRY_MILLISECONDS);
    return;
  }
  message.ack();
  if (!payment) {
    log.info("order is decided already", { order_id: order.order_id });
    return;
  }
  log.info(`payment ${payment.status}`, { order_id: order.order_id, amount: order.amount });
  try {
    await outbox.publish(payment);
  } catch (error) {
    log.warn("cannot publish the payment yet", { order_id: order.order_id, error: error.message });
  }
}

/** What names an order and its customer can be decided; of anything else nobody could be told. */
function parse(message) {
  try {
    const order = message.json();
    return typeof order.order_id === "string" && typeof order.customer === "string" ? order : undefined;
  } catch {
    return undefined;
  }
}
