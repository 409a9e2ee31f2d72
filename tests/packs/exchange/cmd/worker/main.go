// The worker has no port: it sends a tick to the api every 200 ms until it is told to stop.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	base := "http://rates:8080"
	if given := os.Getenv("TICK_URL"); given != "" {
		base = given
	}
	client := &http.Client{Timeout: 2 * time.Second}
	beat := time.NewTicker(200 * time.Millisecond)
	defer beat.Stop()
	log.Printf("ticking to %s", base)
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			tick(ctx, client, base)
		}
	}
}

func tick(ctx context.Context, client *http.Client, base string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/ticks", http.NoBody)
	if err != nil {
		log.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		log.Printf("no tick: %v", err)
		return
	}
	_ = response.Body.Close()
}
