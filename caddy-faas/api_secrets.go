package caddyfaas

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// secretBody is OpenFaaS's Secret. Its values are for the provider alone.
type secretBody struct {
	Name      string  `json:"name"`
	Namespace string  `json:"namespace"`
	Value     *string `json:"value"`
	RawValue  *string `json:"rawValue"` // base64; wins over Value
}

type secretName struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

func (a *API) secretStore() (faas.SecretStore, error) {
	if store, ok := a.engine.provider.(faas.SecretStore); ok {
		return store, nil
	}
	return nil, refuse(http.StatusNotImplemented, "the provider %s keeps no secrets", a.engine.orchestration)
}

func (a *API) secrets(w http.ResponseWriter, r *http.Request, _ string) error {
	store, err := a.secretStore()
	if err != nil {
		return err
	}
	namespace, err := a.named(r)
	if err != nil {
		return err
	}
	secrets, err := store.Secrets(r.Context())
	if err != nil {
		return err
	}
	names := []secretName{}
	for _, s := range secrets {
		if s.Namespace == namespace {
			names = append(names, secretName(s))
		}
	}
	return answerJSON(w, names)
}

// keepSecret creates a secret (POST) or replaces its value (PUT).
func (a *API) keepSecret(w http.ResponseWriter, r *http.Request, _ string) error {
	store, s, body, err := a.readSecret(w, r)
	if err != nil {
		return err
	}
	value, err := body.bytes()
	if err != nil {
		return refuse(http.StatusBadRequest, "%w", err)
	}
	do, status := store.CreateSecret, http.StatusCreated
	if r.Method == http.MethodPut {
		do, status = store.UpdateSecret, http.StatusAccepted
	}
	if err = do(r.Context(), s, value); err == nil {
		a.settleUsers(r.Context(), s)
	}
	return a.secretDone(w, s, status, err)
}

// settleUsers waits until the functions that name a secret serve with its
// present value, or fail, but for no longer than [settling] in all.
func (a *API) settleUsers(ctx context.Context, s faas.Secret) {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	for t := range a.engine.registry.All() {
		if t.Deployment().Uses(s) {
			a.settle(ctx, t.ID())
		}
	}
}

func (a *API) removeSecret(w http.ResponseWriter, r *http.Request, _ string) error {
	store, s, _, err := a.readSecret(w, r)
	if err != nil {
		return err
	}
	return a.secretDone(w, s, http.StatusAccepted, store.RemoveSecret(r.Context(), s))
}

func (a *API) readSecret(w http.ResponseWriter, r *http.Request) (store faas.SecretStore, s faas.Secret, body secretBody, err error) {
	if store, err = a.secretStore(); err != nil {
		return
	}
	if err = readJSON(w, r, &body); err != nil {
		return
	}
	s = faas.Secret{Name: body.Name, Namespace: cmp.Or(body.Namespace, r.URL.Query().Get("namespace"), faas.DefaultNamespace)}
	about(r, s)
	switch bad := s.Validate(); {
	case body.Name == "":
		err = refuse(http.StatusBadRequest, "the body's field name: missing")
	case bad != nil:
		err = refuse(http.StatusBadRequest, "%w", bad)
	case !a.hasNamespace(s.Namespace):
		err = refuse(http.StatusBadRequest, "no such namespace: %q", s.Namespace)
	}
	return
}

// bytes is the secret's value.
func (s *secretBody) bytes() (value []byte, err error) {
	switch {
	case s.RawValue != nil && *s.RawValue != "":
		if value, err = base64.StdEncoding.DecodeString(*s.RawValue); err != nil {
			return nil, errors.New("the body's field rawValue: want base64") // err would tell a part of it
		}
	case s.Value != nil:
		value = []byte(*s.Value)
	default:
		return nil, errors.New("the body's fields value and rawValue: one must be given")
	}
	if len(value) > faas.MaxSecret {
		return nil, errors.New("the secret has 500 KiB or more")
	}
	return value, nil
}

func (a *API) secretDone(w http.ResponseWriter, s faas.Secret, status int, err error) error {
	switch {
	case errors.Is(err, faas.ErrNotFound):
		return refuse(http.StatusNotFound, "no such secret: %s", s)
	case errors.Is(err, faas.ErrExists):
		return refuse(http.StatusConflict, "secret %s exists already", s)
	case err != nil:
		return err
	}
	w.WriteHeader(status)
	return nil
}
