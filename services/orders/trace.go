package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"regexp"
	"strings"
)

const traceparentHeader = "traceparent"

// span is this service's part of a W3C trace.
type span struct{ traceID, spanID, flags string }

type spanKey struct{}

var traceparentForm = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$`)

// withTrace begins a span of the trace that traceparent names, or of a new trace.
func withTrace(ctx context.Context, traceparent string) context.Context {
	s := span{traceID: randomHex(16), spanID: randomHex(8), flags: "01"}
	if traceID, flags, ok := parseTraceparent(traceparent); ok {
		s.traceID, s.flags = traceID, flags
	}
	return context.WithValue(ctx, spanKey{}, s)
}

// traceparent is what the next service is told; empty outside of a trace.
func traceparent(ctx context.Context) string {
	s, ok := ctx.Value(spanKey{}).(span)
	if !ok {
		return ""
	}
	return "00-" + s.traceID + "-" + s.spanID + "-" + s.flags
}

func parseTraceparent(header string) (traceID, flags string, ok bool) {
	m := traceparentForm.FindStringSubmatch(header)
	if m == nil {
		return "", "", false
	}
	version, rest := m[1], m[5]
	if version == "ff" || (version == "00" && rest != "") || isZero(m[2]) || isZero(m[3]) {
		return "", "", false
	}
	return m[2], m[4], true
}

func isZero(digits string) bool { return strings.Trim(digits, "0") == "" }

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}

// newLogger writes JSON lines that carry the trace of their context.
func newLogger(w io.Writer) *slog.Logger {
	handler := slog.NewJSONHandler(w, nil).WithAttrs([]slog.Attr{slog.String("service", "orders")})
	return slog.New(traceHandler{handler})
}

type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, record slog.Record) error {
	if s, ok := ctx.Value(spanKey{}).(span); ok {
		record.AddAttrs(slog.String("trace_id", s.traceID))
	}
	return h.Handler.Handle(ctx, record)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}
