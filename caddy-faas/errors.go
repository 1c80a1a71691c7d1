package caddyfaas

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// statusClientGone is what Caddy logs for a client that went away; nobody receives it.
const statusClientGone = 499

// connectionLost is the X-Faas-Reason of a replica that took the request and broke off before it answered.
const connectionLost = "connection-lost"

// replicaLost is the X-Faas-Reason of a replica that went without a word, as with its machine, before it answered.
const replicaLost = "replica-lost"

// refusals maps why a request got no replica to the status of its answer.
var refusals = map[string]int{
	scale.QueueFull:        http.StatusTooManyRequests,
	scale.Busy:             http.StatusTooManyRequests,
	scale.ColdStartTimeout: http.StatusServiceUnavailable,
	scale.StartFailed:      http.StatusServiceUnavailable,
	scale.NoCapacity:       http.StatusServiceUnavailable,
	scale.Unreachable:      http.StatusBadGateway,
}

// failure turns what went wrong with a call into the error that Caddy answers
// with, without addresses, and sets the headers that say why and when to come again.
func failure(w http.ResponseWriter, id faas.ID, err error) caddyhttp.HandlerError {
	var (
		refused *scale.Refusal
		answer  caddyhttp.HandlerError
		dial    reverseproxy.DialError
		tooBig  *http.MaxBytesError
		limit   *timeLimit
	)
	switch {
	case errors.As(err, &limit):
		return caddyhttp.Error(http.StatusGatewayTimeout, fmt.Errorf("function %s: %w", id, limit))
	case errors.As(err, &refused):
		w.Header().Set("X-Faas-Reason", refused.Reason)
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refused.RetryAfter.Seconds()))))
		return caddyhttp.Error(refusals[refused.Reason], fmt.Errorf("function %s: %w", id, withoutAddresses(refused)))
	case errors.Is(err, scale.ErrLost):
		return broken(w, replicaLost, fmt.Errorf("function %s: %w before it answered", id, scale.ErrLost))
	case errors.Is(err, faas.ErrNotFound):
		return unknown(id)
	case errors.Is(err, errBody) && errors.Is(err, os.ErrDeadlineExceeded):
		return caddyhttp.Error(http.StatusRequestTimeout, errors.New("the body came too slowly"))
	case errors.Is(err, errBody) && !errors.As(err, &tooBig):
		return caddyhttp.Error(http.StatusBadRequest, errBody)
	case errors.As(err, &tooBig):
		return caddyhttp.Error(http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", tooBig.Limit))
	case errors.Is(err, context.Canceled):
		return caddyhttp.Error(statusClientGone, errors.New("the client went away"))
	case errors.Is(err, context.DeadlineExceeded):
		return caddyhttp.Error(http.StatusGatewayTimeout, fmt.Errorf("function %s did not answer in time", id))
	case errors.As(err, &dial):
		return broken(w, scale.Unreachable, fmt.Errorf("function %s: its replica accepts no connection", id))
	case errors.As(err, &answer) && answer.StatusCode == http.StatusBadGateway:
		return broken(w, connectionLost, fmt.Errorf("function %s: its replica closed the connection before it answered", id))
	case errors.As(err, &answer) && answer.StatusCode == http.StatusGatewayTimeout:
		return caddyhttp.Error(answer.StatusCode, fmt.Errorf("function %s did not answer in time", id))
	case errors.As(err, &answer):
		return answer
	}
	return caddyhttp.Error(http.StatusInternalServerError, fmt.Errorf("function %s: %w", id, err))
}

// address is one of the inside, whose digits tell callers nothing: the function's status has them.
var address = regexp.MustCompile(`(?:https?://|tcp://)?(?:\b(?:\d{1,3}\.){3}\d{1,3}|\[[0-9A-Fa-f:.]+\]|\blocalhost):\d+\b`)

// withoutAddresses is a refusal in words for callers; it still is the refusal for whoever logs it.
func withoutAddresses(r *scale.Refusal) error {
	told := *r
	told.Detail = address.ReplaceAllString(r.Detail, "its address")
	return &told
}

// blame tells a replica that broke off from a client that did: the transport
// reports both as the failure of the whole.
func blame(err, reading error) error {
	var answer caddyhttp.HandlerError
	if reading == nil || errors.As(err, &answer) && answer.StatusCode != http.StatusBadGateway {
		return err
	}
	return fmt.Errorf("%w: %w", errBody, reading)
}

// broken is the 502 for a replica that is no good.
func broken(w http.ResponseWriter, reason string, err error) caddyhttp.HandlerError {
	w.Header().Set("X-Faas-Reason", reason)
	w.Header().Set("Retry-After", "1")
	return caddyhttp.Error(http.StatusBadGateway, err)
}

// methods are those that functions are called with, as in OpenFaaS.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// method refuses other methods. A WebSocket begins with CONNECT since HTTP/2.
func method(w http.ResponseWriter, r *http.Request) error {
	if slices.Contains(methods, r.Method) || r.Method == http.MethodConnect && r.ProtoMajor > 1 {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("functions are called with %s", strings.Join(methods, ", ")))
}

// unnamed is the error for a request that names no function.
func unnamed(r *http.Request) caddyhttp.HandlerError {
	if r.URL.Path == prefix {
		return caddyhttp.Error(http.StatusNotFound, errors.New("no function named: call /function/NAME"))
	}
	return caddyhttp.Error(http.StatusBadRequest, errors.New("no function named: call /function/NAME, or send the header X-Function: NAME"))
}

// unknown is the error for a name that no function has.
func unknown(id faas.ID) caddyhttp.HandlerError {
	name := strings.TrimSuffix(id.String(), "."+faas.DefaultNamespace)
	return caddyhttp.Error(http.StatusNotFound, fmt.Errorf("no function named %s: name one as /function/NAME or /function/NAME.NAMESPACE", name))
}
