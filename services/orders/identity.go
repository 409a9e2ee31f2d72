package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

var (
	errUnauthorized = errors.New("log in first")
	errAuthAway     = errors.New("cannot ask auth who you are")
)

// identity asks the auth service who a caller is.
type identity struct {
	me     string
	client *http.Client
}

func newIdentity(authURL string) *identity {
	return &identity{
		me: strings.TrimSuffix(authURL, "/") + "/auth/me",
		client: &http.Client{
			Timeout: 3 * time.Second,
			// No proxy: auth is a neighbour, whatever HTTP_PROXY says about the world outside.
			Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second},
		},
	}
}

// customer gives the id of the caller, errUnauthorized or errAuthAway.
func (i *identity) customer(ctx context.Context, authorization string) (string, error) {
	if authorization == "" {
		return "", errUnauthorized
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.me, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", authorization)
	request.Header.Set(traceparentHeader, traceparent(ctx))
	response, err := i.client.Do(request)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errAuthAway, err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return "", errUnauthorized
	default:
		return "", fmt.Errorf("%w: it answered %s", errAuthAway, response.Status)
	}
	var account struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(response.Body).Decode(&account); err != nil || account.ID == "" {
		return "", fmt.Errorf("%w: it answered something else", errAuthAway)
	}
	return account.ID, nil
}
