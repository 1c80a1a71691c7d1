package faastest

import (
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// nodes holds that what runs runs somewhere.
func nodes(t *testing.T, p faas.Provider, fn faas.Function) {
	lister, ok := p.(faas.NodeLister)
	if !ok {
		t.Skip("this provider does not tell where it runs functions")
	}
	r := Record(t, p, nil)
	count := func() (replicas int) {
		all, err := lister.Nodes(background)
		must(t, err)
		ids := map[string]bool{}
		for _, n := range all {
			if ids[n.ID] || n.ID == "" || n.Name == "" || n.State != faas.NodeReady || n.Availability != faas.NodeActive || n.CPU < 0 || n.Memory < 0 {
				t.Errorf("node %+v after %v", n, ids)
			}
			ids[n.ID] = true
			replicas += n.Replicas
		}
		if len(all) == 0 {
			t.Error("no node")
		}
		return replicas
	}
	if n := count(); n != 0 {
		t.Errorf("%d replicas of no function", n)
	}
	must(t, p.Create(background, fn))
	must(t, p.Scale(background, fn.ID, 2))
	r.UntilReady(t, fn.ID, 2)
	if n := count(); n != 2 {
		t.Errorf("%d replicas on all nodes, want 2", n)
	}
	must(t, p.Scale(background, fn.ID, 0))
	for late := time.Now().Add(Patience); count() != 0; {
		if time.Now().After(late) {
			t.Fatal("nodes keep replicas of a function that has none")
		}
		<-time.After(20 * time.Millisecond)
	}
}
