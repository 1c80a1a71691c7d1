package caddyfaas

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// alertBody is what is read of version 4 of Alertmanager's webhook.
type alertBody struct {
	Status string  `json:"status"`
	Alerts []alert `json:"alerts"`
}

type alert struct {
	Status string `json:"status"`
	Labels struct {
		FunctionName string `json:"function_name"`
		Severity     string `json:"severity"`
	} `json:"labels"`
	StartsAt    string `json:"startsAt"`
	Fingerprint string `json:"fingerprint"`
}

// alert obeys each alert on its function's load. A function that is scaled by
// load has no fewer replicas than the alert asks for, for a minute; another one goes a
// step up while the alert fires, and down once it is resolved. An alert of severity hold
// only keeps its function from being lowered. Functions that don't exist, and jobs, are passed over.
func (a *API) alert(w http.ResponseWriter, r *http.Request, _ string) error {
	var body alertBody
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	var failed []string
	for i, one := range body.Alerts {
		if one.Status == "" {
			one.Status = body.Status
		}
		if err := a.engine.alerts.obey(r.Context(), a.engine, one); err != nil {
			failed = append(failed, fmt.Sprintf("[%d] %v", i, err))
		}
	}
	if len(failed) > 0 {
		return refuse(http.StatusInternalServerError, "%s", strings.Join(failed, "\n"))
	}
	return nil
}

// alerts remembers what was obeyed lately, here or by another gateway.
type alerts struct {
	obeying sync.Mutex // held while an alert is obeyed, so that steps add up

	mu     sync.Mutex
	obeyed map[string]time.Time // by alert.key
}

// resend is how soon an alert that fires on is taken for the same message sent
// once more, as Alertmanager does to a whole group when one of its members changes.
const resend = 25 * time.Second

func (l *alerts) obey(ctx context.Context, e *engine, one alert) error {
	l.obeying.Lock()
	defer l.obeying.Unlock()
	t := e.registry.Lookup(ctx, faas.ParseID(one.Labels.FunctionName), defaultWait)
	firing := one.Status == "firing"
	switch {
	case t == nil, t.Deployment().Job != nil: // a job has no replicas
		metrics.alerts.WithLabelValues("unknown").Inc()
		return nil
	case l.again(one, time.Now()):
		metrics.alerts.WithLabelValues("repeated").Inc()
		return nil
	case one.Labels.Severity == "hold":
		t.Stay(firing)
	case t.Rules().Auto:
		t.Alert(firing)
	default:
		d := t.Deployment()
		want := scale.ByAlert(t.Rules(), d.Desired, firing)
		if want == d.Desired {
			break
		}
		if err := e.provider.Scale(ctx, d.ID, want); err != nil && !errors.Is(err, faas.ErrNotFound) {
			metrics.alerts.WithLabelValues("failed").Inc()
			return err // Alertmanager sends it again
		}
	}
	if one.Fingerprint != "" {
		l.learn(map[string]time.Duration{one.key(): 0}, time.Now())
	}
	metrics.alerts.WithLabelValues("obeyed").Inc()
	return nil
}

// key is the same for each sending of an alert.
func (a *alert) key() string { return a.Fingerprint + " " + a.StartsAt + " " + a.Status }

// again tells whether this very alert was obeyed a short while ago.
func (l *alerts) again(one alert, now time.Time) bool {
	_, ok := l.ages(now)[one.key()]
	return ok
}

// ages are how long ago alerts were obeyed that may be sent again, by their keys.
func (l *alerts) ages(now time.Time) map[string]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]time.Duration, len(l.obeyed))
	for key, at := range l.obeyed {
		if age := now.Sub(at); age < resend {
			all[key] = age
		} else {
			delete(l.obeyed, key)
		}
	}
	return all
}

// learn takes in what was obeyed: what is sent again may be sent to another gateway.
func (l *alerts) learn(ages map[string]time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.obeyed == nil {
		l.obeyed = make(map[string]time.Time)
	}
	for key, age := range ages {
		if _, ok := l.obeyed[key]; !ok && age < resend {
			l.obeyed[key] = now.Add(-age)
		}
	}
}
