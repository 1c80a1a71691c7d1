package verify

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeliveries(t *testing.T) {
	d := NewDeliveries(2)
	key := func(id string) DeliveryKey { return Key("github", []byte("s"), "", id) }
	// deliver tells whether it is the first.
	deliver := func(id string, taken bool, at time.Time) bool {
		end, err := d.Begin(t.Context(), key(id), at)
		if err != nil {
			t.Fatal(err)
		}
		if end != nil {
			end(taken, at.Add(time.Hour))
		}
		return end != nil
	}
	for i, step := range []struct {
		id    string
		taken bool
		after time.Duration
		first bool
	}{
		{"a", false, 0, true}, // it failed: the next one counts
		{"a", true, 0, true},
		{"a", true, 0, false},
		{"a", true, time.Hour, false},
		{"a", true, time.Hour + 1, true}, // forgotten, and taken again
		{"a", true, 2 * time.Hour, false},
		{"b", true, 2 * time.Hour, true},
		{"a", true, 2 * time.Hour, false},
		{"c", true, 2 * time.Hour, true}, // two are remembered
		{"a", true, 2 * time.Hour, true},
		{"c", true, 2 * time.Hour, false},
	} {
		if first := deliver(step.id, step.taken, now.Add(step.after)); first != step.first {
			t.Errorf("step %d, %s: first is %t", i, step.id, first)
		}
	}
	for n := range 1000 {
		deliver(fmt.Sprint(n), true, now)
	}
	if len(d.known) != 2 || d.done != 2 {
		t.Errorf("remembers %d and %d", len(d.known), d.done)
	}
	if Key("a", []byte("b"), "", "c") == Key("a", []byte("bc"), "", "") || Key("a", nil, "", "c") == Key("b", nil, "", "c") || Key("a", nil, "b", "c") == Key("a", nil, "", "c") {
		t.Error("different deliveries have one key")
	}
}

// A sender that delivers much makes another's deliveries no less remembered.
func TestDeliveriesOfSeveral(t *testing.T) {
	d := NewDeliveries(10)
	deliver := func(secret string, n int) bool {
		end, err := d.Begin(t.Context(), Key("github", []byte(secret), "", fmt.Sprint(n)), now)
		if err != nil {
			t.Fatal(err)
		}
		if end != nil {
			end(true, now.Add(time.Hour))
		}
		return end != nil
	}
	deliver("quiet", 0)
	for n := range 100 {
		deliver("busy", n)
	}
	if deliver("quiet", 0) {
		t.Error("the quiet sender's delivery is taken again")
	}
	if deliver("busy", 99) || !deliver("busy", 0) {
		t.Error("of the busy sender the oldest is not what is forgotten")
	}
	for n := range 100 { // each is a sender of its own
		deliver(fmt.Sprint(n), 0)
	}
	if d.done != 10 || len(d.known) != 10 || len(d.past) > 10 {
		t.Errorf("remembers %d, %d, of %d senders", d.done, len(d.known), len(d.past))
	}
}

// Of a delivery that comes again while it is under way, only one is taken.
func TestDeliveryUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDeliveries(10)
		key := Key("s", nil, "", "a")
		first, err := d.Begin(t.Context(), key, now)
		if err != nil || first == nil {
			t.Fatal(err)
		}
		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.Begin(impatient, key, now); !errors.Is(err, context.Canceled) {
			t.Errorf("it did not wait: %v", err)
		}
		takers := make(chan bool, 2)
		for range 2 {
			go func() {
				end, err := d.Begin(t.Context(), key, now)
				if err != nil {
					t.Error(err)
				}
				if end != nil {
					end(true, now.Add(time.Hour))
				}
				takers <- end != nil
			}()
		}
		synctest.Wait()
		if len(takers) != 0 {
			t.Error("it was not waited for")
		}
		first(false, time.Time{})
		if a, b := <-takers, <-takers; a == b {
			t.Errorf("after the first has failed, taken: %t and %t", a, b)
		}
	})
}
