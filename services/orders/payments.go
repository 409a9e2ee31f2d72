package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// consumePayments takes payments.* off the stream and acknowledges each after the order is written:
// a kill before the acknowledgement brings the message again, and settling twice changes nothing.
func consumePayments(ctx context.Context, broker *broker, store *store) {
	failing := false
	for ctx.Err() == nil {
		err := readPayments(ctx, broker, func(message jetstream.Msg) {
			failing = false
			handlePayment(ctx, store, message)
		})
		if err != nil && !failing {
			logRetry(ctx, "cannot read payments", err)
			failing = true
		}
		sleep(ctx, retryInterval)
	}
}

func readPayments(ctx context.Context, broker *broker, handle func(jetstream.Msg)) error {
	consumer, err := broker.payments(ctx)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(
		jetstream.PullMaxMessages(10),
		jetstream.PullExpiry(2*time.Second),
		jetstream.PullHeartbeat(500*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		message, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		handle(message)
	}
}

func handlePayment(ctx context.Context, store *store, message jetstream.Msg) {
	ctx = withTrace(ctx, message.Headers().Get(traceparentHeader))
	orderID, status, err := parsePayment(message)
	if err != nil {
		slog.ErrorContext(ctx, "dropped a payment that cannot be read", "subject", message.Subject(), "error", err)
		_ = message.Term()
		return
	}
	changed, err := store.settle(ctx, orderID, status)
	if err != nil {
		logRetry(ctx, "cannot settle the order", err)
		_ = message.NakWithDelay(retryInterval)
		return
	}
	if changed {
		slog.InfoContext(ctx, "order "+status, "order_id", orderID)
	} else {
		slog.InfoContext(ctx, "order is settled already", "order_id", orderID)
	}
	_ = message.Ack() // lost, it brings the message again
}

func parsePayment(message jetstream.Msg) (orderID, status string, err error) {
	switch message.Subject() {
	case subjectPaymentCaptured:
		status = statusPaid
	case subjectPaymentDeclined:
		status = statusDeclined
	default:
		return "", "", errors.New("unknown subject")
	}
	var payment struct {
		OrderID string `json:"order_id"`
	}
	if err := json.Unmarshal(message.Data(), &payment); err != nil {
		return "", "", err
	}
	if payment.OrderID == "" {
		return "", "", errors.New("no order_id")
	}
	return payment.OrderID, status, nil
}
