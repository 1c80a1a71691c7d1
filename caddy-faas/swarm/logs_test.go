package swarm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/pkg/stdcopy"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A node that is lost takes the lines of its own replicas only.
func TestLogOfLostNode(t *testing.T) {
	f, e, _ := onFake(t)
	must(t, e.Create(background, plain))
	var log strings.Builder
	fmt.Fprintln(stdcopy.NewStdWriter(&log, stdcopy.Stdout), "2026-01-01T00:00:02Z com.docker.swarm.task.id=t1 second")
	fmt.Fprintln(stdcopy.NewStdWriter(&log, stdcopy.Stderr), "2026-01-01T00:00:01Z com.docker.swarm.task.id=t1 first")
	fmt.Fprintln(stdcopy.NewStdWriter(&log, stdcopy.Systemerr), "Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream: node n2 is not available")
	f.log = log.String()
	for tail, want := range map[int]string{
		-1: "t1 first,t1 second, warning: incomplete log stream: node n2 is not available",
		1:  "t1 second, warning: incomplete log stream: node n2 is not available",
	} {
		var got []string
		err := e.Logs(background, plain.ID, faas.LogQuery{Tail: tail}, func(l faas.LogLine) error {
			got = append(got, l.Replica+" "+l.Text)
			return nil
		})
		if err != nil || strings.Join(got, ",") != want {
			t.Errorf("%v %q", err, got)
		}
	}
}

func TestParseLogLine(t *testing.T) {
	got, ok := parseLogLine("2026-01-02T03:04:05.123456789Z com.docker.swarm.node.id=n,com.docker.swarm.task.id=t1 a  text")
	if want := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC); !ok || got.Replica != "t1" || got.Text != "a  text" || !got.Time.Equal(want) {
		t.Errorf("%+v, %v", got, ok)
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add("2026-01-02T03:04:05.123456789Z com.docker.swarm.task.id=t1 text", 3)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		var lines []string
		w := &lineWriter{line: func(b []byte) error { lines = append(lines, string(b)); return nil }}
		if cut < 0 || cut > len(text) {
			cut = 0
		}
		for _, part := range []string{text[:cut], text[cut:]} {
			if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
		}
		must(t, w.flush())
		whole := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
		if len(text) < maxLine && strings.Join(lines, "\n") != strings.Join(whole, "\n") {
			t.Errorf("%q became %q", text, lines)
		}
		for _, line := range lines {
			if l, ok := parseLogLine(line); ok && (l.Replica == "" || !strings.Contains(line, l.Replica)) {
				t.Errorf("%q became %+v", line, l)
			}
		}
	})
}
