package swarm

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestTranslate(t *testing.T) {
	for text, want := range map[string]error{
		"Error response from daemon: rpc error: code = Unknown desc = update out of sequence": errOutOfSequence,
		"rpc error: code = DeadlineExceeded desc = context deadline exceeded":                 faas.ErrUnavailable,
		"The swarm does not have a leader":                                                    faas.ErrUnavailable,
	} {
		if err := translate(errors.New(text)); !errors.Is(err, want) {
			t.Errorf("%q became %v", text, err)
		}
	}
	if err := translate(errors.New("Error response from daemon: rpc error: code = Unknown desc = name: bad")); err.Error() != "name: bad" {
		t.Errorf("%v", err)
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"message": "ask somebody else"}`)
	}))
	defer proxy.Close()
	d, err := newDocker("tcp://" + proxy.Listener.Addr().String())
	must(t, err)
	defer d.Close()
	if err := d.removeService(background, "echo"); !errors.Is(err, faas.ErrForbidden) || !strings.HasSuffix(err.Error(), ": ask somebody else") {
		t.Errorf("what a proxy refuses is %v", err)
	}
}
