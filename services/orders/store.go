package main

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

//go:embed schema.sql
var schema string

const (
	statusPending  = "pending"
	statusPaid     = "paid"
	statusDeclined = "declined"

	listLimit = 100
)

var errNotFound = errors.New("no such order")

type order struct {
	ID        string    `json:"id"`
	Item      string    `json:"item"`
	Amount    int64     `json:"amount"`
	Status    string    `json:"status"`
	CreatedAt time.Time `json:"created_at"`

	customer string
}

// orderCreated is the event that other services read.
type orderCreated struct {
	OrderID   string    `json:"order_id"`
	Customer  string    `json:"customer"`
	Item      string    `json:"item"`
	Amount    int64     `json:"amount"`
	CreatedAt time.Time `json:"created_at"`
}

// event is one row of the outbox.
type event struct {
	id          int64
	messageID   string
	subject     string
	payload     string
	traceparent string
}

// store holds orders and the events about them. All SQL is here.
type store struct {
	db        *sql.DB
	hasSchema atomic.Bool
}

// openStore needs no database to be there yet.
func openStore(cfg *mysql.Config) (*store, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot use DATABASE_URL: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(5) // many replicas share one server
	db.SetMaxIdleConns(2)
	db.SetConnMaxIdleTime(time.Minute)
	return &store{db: db}, nil
}

func (s *store) close() { _ = s.db.Close() }

// prepare makes the schema as soon as the database is there.
func (s *store) prepare(ctx context.Context) {
	for s.check(ctx) != nil {
		if !sleep(ctx, retryInterval) {
			return
		}
	}
}

// check asks the database a real question, and makes the schema again should it be gone.
func (s *store) check(ctx context.Context) error {
	if !s.hasSchema.Load() {
		for _, statement := range strings.Split(schema, ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			if _, err := s.db.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("cannot make the schema: %w", err)
			}
		}
		s.hasSchema.Store(true)
	}
	var one int
	err := s.db.QueryRowContext(ctx, "SELECT 1 FROM orders LIMIT 1").Scan(&one)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		s.hasSchema.Store(false)
		return err
	}
	return nil
}

// create stores the order and the event about it, both or none.
func (s *store) create(ctx context.Context, customer, item string, amount int64) (order, error) {
	o := order{
		ID: randomHex(16), Item: item, Amount: amount, Status: statusPending,
		CreatedAt: time.Now().UTC().Truncate(time.Microsecond), customer: customer,
	}
	payload, err := json.Marshal(orderCreated{o.ID, o.customer, o.Item, o.Amount, o.CreatedAt})
	if err != nil {
		return order{}, err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return order{}, err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx,
		"INSERT INTO orders (id, customer, item, amount, status, created_at) VALUES (?, ?, ?, ?, ?, ?)",
		o.ID, o.customer, o.Item, o.Amount, o.Status, o.CreatedAt); err != nil {
		return order{}, err
	}
	if _, err := tx.ExecContext(ctx,
		"INSERT INTO outbox (message_id, subject, payload, traceparent) VALUES (?, ?, ?, ?)",
		"order-"+o.ID, subjectOrderCreated, payload, traceparent(ctx)); err != nil {
		return order{}, err
	}
	return o, tx.Commit()
}

func (s *store) find(ctx context.Context, id, customer string) (order, error) {
	var o order
	err := s.db.QueryRowContext(ctx,
		"SELECT id, item, amount, status, created_at FROM orders WHERE id = ? AND customer = ?", id, customer,
	).Scan(&o.ID, &o.Item, &o.Amount, &o.Status, &o.CreatedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return order{}, errNotFound
	}
	return o, err
}

func (s *store) list(ctx context.Context, customer string) ([]order, error) {
	rows, err := s.db.QueryContext(ctx,
		"SELECT id, item, amount, status, created_at FROM orders WHERE customer = ?"+
			" ORDER BY created_at DESC, id LIMIT ?", customer, listLimit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	orders := []order{} // an empty list, not null
	for rows.Next() {
		var o order
		if err := rows.Scan(&o.ID, &o.Item, &o.Amount, &o.Status, &o.CreatedAt); err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}

// settle ends a pending order; told the same again, it changes nothing.
func (s *store) settle(ctx context.Context, id, status string) (changed bool, err error) {
	result, err := s.db.ExecContext(ctx,
		"UPDATE orders SET status = ? WHERE id = ? AND status = ?", status, id, statusPending)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// publishUnsent hands unsent events to publish, oldest first, and forgets those it took. Events that
// another replica is sending are skipped. It says how many were sent, and why it stopped.
func (s *store) publishUnsent(ctx context.Context, limit int, publish func(event) error) (int, error) {
	// Read committed: with the default level the range stays locked, and new orders would wait.
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	events, err := selectUnsent(ctx, tx, limit)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	var publishErr error
	sent := 0
	for _, e := range events {
		if publishErr = publish(e); publishErr != nil {
			break
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM outbox WHERE id = ?", e.id); err != nil {
			return 0, err
		}
		sent++
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	return sent, publishErr
}

func selectUnsent(ctx context.Context, tx *sql.Tx, limit int) ([]event, error) {
	rows, err := tx.QueryContext(ctx,
		"SELECT id, message_id, subject, payload, traceparent FROM outbox"+
			" ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED", limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []event
	for rows.Next() {
		var e event
		if err := rows.Scan(&e.id, &e.messageID, &e.subject, &e.payload, &e.traceparent); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

func logRetry(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		slog.WarnContext(ctx, what+", trying again", "error", err)
	}
}
