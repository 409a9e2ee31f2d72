package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWhatIsNoOrderIsRefusedBeforeAnythingIsStored(t *testing.T) {
	for body, status := range map[string]int{
		`{"item": "book"}`:                                              http.StatusBadRequest,
		`{"item": "book", "amount": 0}`:                                 http.StatusBadRequest,
		`{"item": "book", "amount": 1.5}`:                               http.StatusBadRequest,
		fmt.Sprintf(`{"item": "book", "amount": %d}`, maxAmount+1):      http.StatusBadRequest,
		`{"item": "book", "amount": 9007199254740993}`:                  http.StatusBadRequest,
		`{"item": "` + strings.Repeat("x", maxBody) + `", "amount": 1}`: http.StatusRequestEntityTooLarge,
	} {
		request := httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(body))
		recorder := httptest.NewRecorder()

		answerError(recorder, request, (&api{}).createOrder(recorder, request, "somebody"))

		if recorder.Code != status {
			t.Errorf("%.60s: status %d, not %d: %s", body, recorder.Code, status, recorder.Body)
		}
	}
}
