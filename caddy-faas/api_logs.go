package caddyfaas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// logLine is OpenFaaS's log Message.
type logLine struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Instance  string    `json:"instance"`
	Timestamp time.Time `json:"timestamp"`
	Text      string    `json:"text"`
}

// logs answers with a line of JSON for each line that a function's replicas wrote.
// With follow it goes on until the client goes, the function is removed or the
// server shuts down, as it does when Caddy's configuration is replaced.
func (a *API) logs(w http.ResponseWriter, r *http.Request, _ string) error {
	provider, ok := a.engine.provider.(faas.Logger)
	if !ok {
		return refuse(http.StatusNotImplemented, "the provider %s keeps no logs", a.engine.orchestration)
	}
	id, q, err := logQuery(r.URL.Query())
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "%w", err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-a.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	answer := http.NewResponseController(w)
	if a.engine.registry.Lookup(ctx, id, defaultWait) == nil {
		return noFunction(id)
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	if err := answer.Flush(); err != nil {
		return err
	}
	lines := json.NewEncoder(w)
	err = provider.Logs(ctx, id, q, func(l faas.LogLine) error {
		if err := lines.Encode(logLine{id.Name, id.Namespace, l.Replica, l.Time, l.Text}); err != nil {
			return err
		}
		return answer.Flush()
	})
	if err == nil || ctx.Err() != nil || errors.Is(err, faas.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("%w: reading the log of %s: %w", errAnswered, id, err)
}

// logQuery reads name, namespace, instance, tail, since and follow.
func logQuery(v url.Values) (id faas.ID, q faas.LogQuery, err error) {
	if v.Get("name") == "" {
		return id, q, errors.New("name: missing: want the function's name")
	}
	id = apiID(v.Get("name"), v.Get("namespace"))
	q = faas.LogQuery{Replica: v.Get("instance"), Tail: -1}
	if s := v.Get("tail"); s != "" {
		if q.Tail, err = strconv.Atoi(s); err != nil {
			return id, q, fmt.Errorf("tail %q: want a number of lines", s)
		}
		if q.Tail == 0 { // as faas-cli means it
			q.Tail = -1
		}
	}
	if s := v.Get("since"); s != "" {
		if q.Since, err = time.Parse(time.RFC3339, s); err != nil {
			return id, q, fmt.Errorf("since %q: want a time such as %s", s, time.RFC3339)
		}
	}
	if s := v.Get("follow"); s != "" {
		if q.Follow, err = strconv.ParseBool(s); err != nil {
			return id, q, fmt.Errorf("follow %q: want true or false", s)
		}
	}
	return id, q, nil
}
