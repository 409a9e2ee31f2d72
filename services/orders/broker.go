package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	subjectOrderCreated    = "orders.created"
	subjectPaymentCaptured = "payments.captured"
	subjectPaymentDeclined = "payments.declined"

	publishTimeout = 2 * time.Second
)

// Both services make both streams; the definitions are the same.
var streams = []jetstream.StreamConfig{
	{Name: "ORDERS", Subjects: []string{"orders.>"}},
	{Name: "PAYMENTS", Subjects: []string{"payments.>"}},
}

var paymentsConsumer = jetstream.ConsumerConfig{
	Durable:       "orders",
	FilterSubject: "payments.*",
	AckPolicy:     jetstream.AckExplicitPolicy,
	AckWait:       5 * time.Second, // how long a killed replica's message waits for another one
}

// broker is the NATS connection and what must exist on the server.
type broker struct {
	connection *nats.Conn
	js         jetstream.JetStream
}

// connectBroker returns at once; the connection is made, and made again, in the background.
func connectBroker(url string) (*broker, error) {
	connection, err := nats.Connect(url,
		nats.Name("orders"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.PingInterval(5*time.Second),
		nats.ReconnectBufSize(-1), // no sending later: the outbox does that
		nats.ConnectHandler(func(*nats.Conn) { slog.Info("connected to NATS") }),
		nats.ReconnectHandler(func(*nats.Conn) { slog.Info("found NATS again") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				slog.Warn("lost NATS", "error", err)
			}
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot use NATS_URL: %w", err)
	}
	js, err := jetstream.New(connection)
	if err != nil {
		connection.Close()
		return nil, err
	}
	return &broker{connection: connection, js: js}, nil
}

func (b *broker) close() { b.connection.Close() }

// state is one word: connected, or what is done about it.
func (b *broker) state() string { return strings.ToLower(b.connection.Status().String()) }

func (b *broker) connected() error {
	if b.connection.Status() != nats.CONNECTED {
		return fmt.Errorf("not connected to NATS: %s", b.state())
	}
	return nil
}

// publish returns once the message is stored; the same id again is stored once.
func (b *broker) publish(ctx context.Context, subject, id, payload string) error {
	if err := b.connected(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	message := nats.NewMsg(subject)
	message.Data = []byte(payload)
	message.Header.Set(traceparentHeader, traceparent(ctx))
	_, err := b.js.PublishMsg(ctx, message, jetstream.WithMsgID(id))
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		err = errors.Join(err, b.ensureStreams(ctx))
	}
	return err
}

// ensureStreams makes what is missing: either service may come first, and a broker may come back
// with an empty store.
func (b *broker) ensureStreams(ctx context.Context) error {
	for _, stream := range streams {
		_, err := b.js.CreateStream(ctx, stream)
		if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
	}
	return nil
}

func (b *broker) payments(ctx context.Context) (jetstream.Consumer, error) {
	if err := b.ensureStreams(ctx); err != nil {
		return nil, err
	}
	return b.js.CreateOrUpdateConsumer(ctx, "PAYMENTS", paymentsConsumer)
}
