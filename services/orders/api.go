package main

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"
)

const (
	healthTimeout = 800 * time.Millisecond
	maxBody       = 64 << 10
	maxItem       = 200
	maxAmount     = 100_000_000_000 // cents; far below 2^53, which every reader of our events can hold
)

// api is what callers see.
type api struct {
	store    *store
	broker   *broker
	outbox   *outbox
	identity *identity
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("POST /orders", a.forCustomer(a.createOrder))
	mux.HandleFunc("GET /orders", a.forCustomer(a.listOrders))
	mux.HandleFunc("GET /orders/{id}", a.forCustomer(a.getOrder))
	return traced(mux)
}

// health asks for what an order needs. The broker is told of and not asked for: orders are taken while
// it is away, and the outbox publishes them when it is back.
func (a *api) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	broker := a.broker.state()
	if err := a.store.check(ctx); err != nil {
		answer(w, http.StatusServiceUnavailable,
			map[string]string{"status": "unavailable", "reason": err.Error(), "broker": broker})
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ok", "broker": broker})
}

func (a *api) createOrder(w http.ResponseWriter, r *http.Request, customer string) error {
	var body struct {
		Item   string `json:"item"`
		Amount int64  `json:"amount"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&body); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return errTooLarge
		}
		return badRequest(`send {"item": "...", "amount": 1250}, the amount in cents`)
	}
	item := strings.TrimSpace(body.Item)
	if item == "" || utf8.RuneCountInString(item) > maxItem {
		return badRequest("an item has 1 to 200 characters")
	}
	if body.Amount < 1 || body.Amount > maxAmount {
		return badRequest(fmt.Sprintf("an amount is a whole number of cents from 1 to %d", maxAmount))
	}
	o, err := a.store.create(r.Context(), customer, item, body.Amount)
	if err != nil {
		return err
	}
	a.outbox.wake()
	slog.InfoContext(r.Context(), "order created", "order_id", o.ID, "amount", o.Amount)
	w.Header().Set("Location", "/orders/"+o.ID)
	answer(w, http.StatusCreated, o)
	return nil
}

func (a *api) getOrder(w http.ResponseWriter, r *http.Request, customer string) error {
	o, err := a.store.find(r.Context(), r.PathValue("id"), customer)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, o)
	return nil
}

func (a *api) listOrders(w http.ResponseWriter, r *http.Request, customer string) error {
	orders, err := a.store.list(r.Context(), customer)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, orders)
	return nil
}

// forCustomer asks who the caller is, and answers the errors of the handler.
func (a *api) forCustomer(handle func(http.ResponseWriter, *http.Request, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		customer, err := a.identity.customer(r.Context(), r.Header.Get("Authorization"))
		if err == nil {
			err = handle(w, r, customer)
		}
		if err != nil {
			answerError(w, r, err)
		}
	}
}

var errTooLarge = fmt.Errorf("a request has at most %d bytes", maxBody)

type badRequest string

func (b badRequest) Error() string { return string(b) }

func answerError(w http.ResponseWriter, r *http.Request, err error) {
	status, message := http.StatusInternalServerError, "internal error"
	var bad badRequest
	switch {
	case errors.As(err, &bad):
		status, message = http.StatusBadRequest, err.Error()
	case errors.Is(err, errTooLarge):
		status, message = http.StatusRequestEntityTooLarge, err.Error()
	case errors.Is(err, errUnauthorized):
		status, message = http.StatusUnauthorized, err.Error()
		w.Header().Set("WWW-Authenticate", "Bearer")
	case errors.Is(err, errNotFound):
		status, message = http.StatusNotFound, err.Error()
	case errors.Is(err, errAuthAway):
		status, message = http.StatusServiceUnavailable, errAuthAway.Error()
	case isDatabaseAway(err):
		status, message = http.StatusServiceUnavailable, "cannot reach the database"
	}
	switch status {
	case http.StatusInternalServerError:
		slog.ErrorContext(r.Context(), "cannot answer", "error", err)
	case http.StatusServiceUnavailable:
		slog.WarnContext(r.Context(), message, "error", err)
	}
	answer(w, status, map[string]string{"error": message})
}

func isDatabaseAway(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller went away
}

// traced begins a span for each request and logs how it ended.
func traced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(withTrace(r.Context(), r.Header.Get(traceparentHeader)))
		started := time.Now()
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		if r.URL.Path == "/healthz" {
			return // asked many times a second
		}
		slog.InfoContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path,
			"status", recorder.status, "duration_ms", time.Since(started).Milliseconds())
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}
