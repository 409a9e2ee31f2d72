// Orders takes orders from customers and tells everybody about them:
//
//	POST /orders -> order + outbox row, one transaction -> orders.created on NATS
//	payments.captured | payments.declined on NATS       -> the order is paid | declined
//
// It starts before its database or broker are there and finds them again whenever they were away.
// /healthz answers 503 while the database is away; without the broker orders are taken all the same.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	shutdownGrace = 8 * time.Second
	readTimeout   = 30 * time.Second // a caller that sends its request a byte at a time
	idleTimeout   = 2 * time.Minute
)

func main() {
	slog.SetDefault(newLogger(os.Stdout))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		slog.Error("cannot run orders", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg, err := loadConfig(getenv)
	if err != nil {
		return err
	}
	store, err := openStore(cfg.databaseURL)
	if err != nil {
		return err
	}
	defer store.close()
	broker, err := connectBroker(cfg.natsURL)
	if err != nil {
		return err
	}
	defer broker.close()
	listener, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}

	outbox := newOutbox(store, broker)
	api := &api{store: store, broker: broker, outbox: outbox, identity: newIdentity(cfg.authURL)}
	server := &http.Server{
		Handler:           api.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
	}

	var work sync.WaitGroup
	work.Go(func() {
		store.prepare(ctx)
		work.Go(func() { outbox.run(ctx) })
		consumePayments(ctx, broker, store)
	})
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	slog.Info("listening", "address", cfg.listen)

	var failure error
	select {
	case failure = <-failed:
	case <-ctx.Done():
	}
	slog.Info("stopping")
	cancel()
	grace, release := context.WithTimeout(context.Background(), shutdownGrace)
	defer release()
	if err := server.Shutdown(grace); err != nil && !errors.Is(err, http.ErrServerClosed) {
		slog.Warn("cannot finish all requests", "error", err)
	}
	work.Wait()
	slog.Info("stopped")
	return failure
}
