package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
)

const (
	testTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	testSpan  = "00f067aa0ba902b7"
)

func TestTraceGoesOnWithASpanOfOurOwn(t *testing.T) {
	next := traceparent(withTrace(context.Background(), "00-"+testTrace+"-"+testSpan+"-00"))

	if !strings.HasPrefix(next, "00-"+testTrace+"-") || !strings.HasSuffix(next, "-00") || strings.Contains(next, testSpan) {
		t.Errorf("traceparent = %q", next)
	}
}

func TestInvalidTraceparentBeginsANewTrace(t *testing.T) {
	for _, header := range []string{
		"",
		"nonsense",
		"00-" + testTrace + "-" + testSpan,
		"00-" + strings.Repeat("0", 32) + "-" + testSpan + "-01",
		"00-" + testTrace + "-" + strings.Repeat("0", 16) + "-01",
		"ff-" + testTrace + "-" + testSpan + "-01",
		"00-" + testTrace + "-" + testSpan + "-01-more",
	} {
		next := traceparent(withTrace(context.Background(), header))

		if _, _, ok := parseTraceparent(next); !ok || strings.Contains(next, testTrace) {
			t.Errorf("after %q traceparent = %q", header, next)
		}
	}
}

func TestLogLineCarriesTheTrace(t *testing.T) {
	var out bytes.Buffer
	ctx := withTrace(context.Background(), "00-"+testTrace+"-"+testSpan+"-01")

	newLogger(&out).InfoContext(ctx, "hello", "order_id", "1")

	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"msg": "hello", "service": "orders", "trace_id": testTrace, "order_id": "1"} {
		if line[key] != want {
			t.Errorf("%s = %v, want %v", key, line[key], want)
		}
	}
}
