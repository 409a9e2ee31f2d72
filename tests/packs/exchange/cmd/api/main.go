// The api tells rates over HTTP and counts the ticks that the worker sends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"example.test/exchange/internal/rates"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{
		Addr:              net.JoinHostPort(or("HOST", "127.0.0.1"), or("PORT", "8080")),
		Handler:           routes(),
		ReadHeaderTimeout: 5 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		_ = server.Shutdown(drain)
	}()
	log.Printf("rates on %s", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-done
}

func routes() http.Handler {
	var ticks atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"ok": true})
	})
	mux.HandleFunc("GET /rates/{currency}", func(w http.ResponseWriter, r *http.Request) {
		rate, err := rates.Of(r.PathValue("currency"))
		if err != nil {
			answer(w, http.StatusNotFound, map[string]any{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]any{"rate": rate})
	})
	mux.HandleFunc("POST /ticks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"ticks": ticks.Add(1)})
	})
	mux.HandleFunc("GET /ticks", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"ticks": ticks.Load()})
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func or(name, usual string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return usual
}
