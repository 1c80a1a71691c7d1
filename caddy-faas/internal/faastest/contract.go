package faastest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Contract tests what every provider owes its callers. Open returns an empty
// provider for one test, and a function that it can run, whose replicas become
// ready.
func Contract(t *testing.T, open func(t *testing.T) (faas.Provider, faas.Function)) {
	for name, test := range map[string]func(*testing.T, faas.Provider, faas.Function){
		"life":        life,
		"errors":      sentinels,
		"verbatim":    verbatim,
		"namespaces":  namespaces,
		"min":         least,
		"watch":       watch,
		"watch again": watchAgain,
		"ended":       ended,
		"at once":     atOnce,
		"secrets":     secrets,
		"nodes":       nodes,
		"job":         job,
	} {
		t.Run(name, func(t *testing.T) {
			p, fn := open(t)
			test(t, p, fn)
		})
	}
}

var background = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get lists one function; nil if it isn't there.
func get(t testing.TB, p faas.Provider, id faas.ID) *faas.Deployment {
	t.Helper()
	all, err := p.List(background)
	must(t, err)
	var found *faas.Deployment
	for _, d := range all {
		if d.ID == id && found != nil {
			t.Fatalf("%s is listed twice", id)
		}
		if d.ID == id {
			found = &d
		}
	}
	return found
}

func life(t *testing.T, p faas.Provider, fn faas.Function) {
	r := Record(t, p, nil)
	must(t, p.Create(background, fn))
	first := r.UntilReady(t, fn.ID, 1)
	d := get(t, p, fn.ID)
	if d == nil || d.Desired != 1 || d.Created.IsZero() {
		t.Fatalf("created: %+v", d)
	}
	must(t, p.Scale(background, fn.ID, 3))
	if d := get(t, p, fn.ID); d.Desired != 3 {
		t.Errorf("desired is %d right after Scale, want 3", d.Desired)
	}
	r.UntilReady(t, fn.ID, 3)
	fn.Env = maps.Clone(fn.Env)
	fn.Env["version"] = "2"
	must(t, p.Update(background, fn))
	r.Until(t, "3 new replicas", func(now map[faas.ID]faas.Deployment) bool {
		d := now[fn.ID]
		fresh := !slices.ContainsFunc(d.Replicas, func(r faas.Replica) bool { return r.ID == first[0].ID })
		return fresh && Ready(d) == 3 && d.Desired == 3 && d.Env["version"] == "2"
	})
	must(t, p.Scale(background, fn.ID, 0))
	r.UntilReady(t, fn.ID, 0)
	must(t, p.Remove(background, fn.ID))
	r.Until(t, "deleted", func(now map[faas.ID]faas.Deployment) bool { return len(now) == 0 })
	if d := get(t, p, fn.ID); d != nil {
		t.Errorf("removed, and still listed: %+v", d)
	}
	must(t, p.Create(background, fn))
	r.UntilReady(t, fn.ID, 1)
}

func sentinels(t *testing.T, p faas.Provider, fn faas.Function) {
	want := func(err, target error) {
		t.Helper()
		if !errors.Is(err, target) {
			t.Errorf("got %v, want %v", err, target)
		}
	}
	want(p.Update(background, fn), faas.ErrNotFound)
	want(p.Remove(background, fn.ID), faas.ErrNotFound)
	want(p.Scale(background, fn.ID, 1), faas.ErrNotFound)
	must(t, p.Create(background, fn))
	want(p.Create(background, fn), faas.ErrExists)
	want(p.Scale(background, fn.ID, -1), faas.ErrInvalid)
	for _, bad := range []faas.ID{{Name: "../x", Namespace: "ns"}, {Name: "", Namespace: "ns"}, {Name: "x", Namespace: "a.b"}, {Name: "x"}} {
		invalid := fn
		invalid.ID = bad
		want(p.Create(background, invalid), faas.ErrInvalid)
	}
	all, err := p.List(background)
	must(t, err)
	if len(all) != 1 {
		t.Errorf("%d functions after refused calls, want 1", len(all))
	}
}

func verbatim(t *testing.T, p faas.Provider, fn faas.Function) {
	fn.Image = "registry.example/team/image:1.2"
	fn.Env = maps.Clone(fn.Env)
	fn.Env["text"] = "a\nb \"c\" $d \u00fc"
	fn.Labels = map[string]string{"com.openfaas.scale.min": "0", "empty": ""}
	fn.Annotations = map[string]string{"note": "spaces, newlines\n{\"json\": [1]}"}
	fn.Constraints = []string{"node.role == worker"}
	fn.Limits = faas.Resources{"memory": "128Mi", "cpu": "100m"}
	fn.Requests = faas.Resources{"memory": "5Mi"}
	must(t, p.Create(background, fn))
	if d := get(t, p, fn.ID); !reflect.DeepEqual(d.Function, fn) {
		t.Errorf("created\n%+v\nlisted\n%+v", fn, d.Function)
	}
	created := get(t, p, fn.ID).Created
	fn.Limits, fn.Annotations = nil, nil
	must(t, p.Update(background, fn))
	d := get(t, p, fn.ID)
	if !reflect.DeepEqual(d.Function, fn) {
		t.Errorf("updated to\n%+v\nlisted\n%+v", fn, d.Function)
	}
	if !d.Created.Equal(created) {
		t.Errorf("an update moved Created from %s to %s", created, d.Created)
	}
}

func namespaces(t *testing.T, p faas.Provider, fn faas.Function) {
	other := fn
	other.Namespace = "other"
	must(t, p.Create(background, fn))
	must(t, p.Create(background, other))
	must(t, p.Scale(background, other.ID, 2))
	must(t, p.Remove(background, fn.ID))
	if get(t, p, fn.ID) != nil || get(t, p, other.ID) == nil || get(t, p, other.ID).Desired != 2 {
		t.Error("a function of another namespace was taken for this one")
	}
}

func least(t *testing.T, p faas.Provider, fn faas.Function) {
	fn.Labels = map[string]string{faas.LabelMin: "2"}
	r := Record(t, p, nil)
	must(t, p.Create(background, fn))
	r.UntilReady(t, fn.ID, 2)
}

func watch(t *testing.T, p faas.Provider, fn faas.Function) {
	var ids []faas.ID
	for i := range 3 {
		fn := fn
		fn.Name = fmt.Sprint(fn.Name, i)
		ids = append(ids, fn.ID)
		must(t, p.Create(background, fn))
	}
	r := Record(t, p, nil)
	for _, id := range ids {
		if r.Deployment(id).ID != id {
			t.Errorf("%s was not set before Synced", id)
		}
	}
	var seen []string
	for _, id := range ids {
		for _, replica := range r.UntilReady(t, id, 1) {
			if replica.Addr == "" || replica.ID == "" || replica.Slot != 1 || slices.Contains(seen, replica.ID) {
				t.Errorf("replica %+v of %s, after %v", replica, id, seen)
			}
			seen = append(seen, replica.ID)
		}
	}
}

func watchAgain(t *testing.T, p faas.Provider, fn faas.Function) {
	must(t, p.Create(background, fn))
	t.Run("first", func(t *testing.T) { Record(t, p, nil).UntilReady(t, fn.ID, 1) })
	t.Run("second", func(t *testing.T) { Record(t, p, nil).UntilReady(t, fn.ID, 1) })
}

func ended(t *testing.T, p faas.Provider, fn faas.Function) {
	must(t, p.Create(background, fn))
	ctx, cancel := context.WithCancel(background)
	cancel()
	other := fn
	other.Name += "2"
	calls := map[string]error{
		"Create": p.Create(ctx, other), "Update": p.Update(ctx, fn), "Scale": p.Scale(ctx, fn.ID, 5), "Remove": p.Remove(ctx, fn.ID),
	}
	for call, err := range calls {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", call, err)
		}
	}
	if d := get(t, p, fn.ID); d == nil || d.Desired != 1 || get(t, p, other.ID) != nil {
		t.Error("calls with an ended context changed something")
	}
}

// atOnce makes all kinds of calls for the same few names at the same time, and
// then looks whether everybody agrees on what is there.
func atOnce(t *testing.T, p faas.Provider, fn faas.Function) {
	fn.Labels = map[string]string{faas.LabelMin: "0"}
	r := Record(t, p, nil)
	var mu sync.Mutex
	balance := map[faas.ID]int{} // creations less removals
	var wg sync.WaitGroup
	for i := range 50 {
		fn := fn
		fn.Name = fmt.Sprint(fn.Name, i%5)
		count := func(err error, n int, allowed ...error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				balance[fn.ID] += n
			} else if !slices.ContainsFunc(allowed, func(target error) bool { return errors.Is(err, target) }) {
				t.Error(err)
			}
		}
		wg.Go(func() { count(p.Create(background, fn), 1, faas.ErrExists) })
		wg.Go(func() { count(p.Update(background, fn), 0, faas.ErrNotFound) })
		wg.Go(func() { count(p.Scale(background, fn.ID, i%2), 0, faas.ErrNotFound) })
		wg.Go(func() { count(p.Remove(background, fn.ID), -1, faas.ErrNotFound) })
	}
	wg.Wait()
	listed, err := p.List(background)
	must(t, err)
	there := map[faas.ID]int{}
	for _, d := range listed {
		there[d.ID]++
	}
	for id, n := range balance {
		if there[id] != n {
			t.Errorf("%s is listed %d times, after %d more creations than removals", id, there[id], n)
		}
	}
	r.Until(t, "the watch agrees with the list", func(now map[faas.ID]faas.Deployment) bool {
		for _, d := range listed {
			if n := now[d.ID]; n.Desired != d.Desired || Ready(n) != d.Desired || len(n.Replicas) != d.Desired {
				return false
			}
		}
		return len(now) == len(listed)
	})
}
