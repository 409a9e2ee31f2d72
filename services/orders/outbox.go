package main

import (
	"context"
	"log/slog"
	"time"
)

const (
	outboxBatch   = 50
	outboxPoll    = time.Second
	retryInterval = 500 * time.Millisecond
)

// outbox publishes what the database says is unsent, until the broker has acknowledged it. Any
// number of replicas may do so: rows in work are locked, a killed replica's locks go with its
// connection, and the message id lets the broker drop what was sent twice.
type outbox struct {
	store  *store
	broker *broker
	awake  chan struct{}
}

func newOutbox(store *store, broker *broker) *outbox {
	return &outbox{store: store, broker: broker, awake: make(chan struct{}, 1)}
}

// wake says that there is something to publish: do not wait for the next poll.
func (o *outbox) wake() {
	select {
	case o.awake <- struct{}{}:
	default: // it will look anyway
	}
}

func (o *outbox) run(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		sent, err := o.store.publishUnsent(ctx, outboxBatch, func(e event) error {
			return o.publish(withTrace(ctx, e.traceparent), e)
		})
		switch {
		case err != nil:
			if !failing {
				logRetry(ctx, "cannot publish orders", err)
			}
			sleep(ctx, retryInterval)
		case sent < outboxBatch:
			o.rest(ctx)
		}
		failing = err != nil
	}
}

func (o *outbox) publish(ctx context.Context, e event) error {
	if err := o.broker.publish(ctx, e.subject, e.messageID, e.payload); err != nil {
		return err
	}
	slog.InfoContext(ctx, "published", "subject", e.subject, "message_id", e.messageID)
	return nil
}

func (o *outbox) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-o.awake:
	case <-time.After(outboxPoll):
	}
}

// sleep waits, and says whether the time passed without the work being called off.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
