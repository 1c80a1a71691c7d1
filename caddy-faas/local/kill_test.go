package local

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
	"go.uber.org/zap"
)

// levels are the kinds of isolation, each with what it makes of the best one.
var levels = map[string]func(isolation) isolation{
	"best":           nil,
	"no namespaces":  func(i isolation) isolation { return isolation{drop: i.drop} },
	"process groups": func(isolation) isolation { return isolation{} },
}

// beGateway is the gateway of TestKilledGateway: it runs one function until it is killed.
func beGateway(data string) {
	p := new(Provider)
	s := faas.Settings{Data: data, Watchdog: os.Getenv("FAAS_TEST_WATCHDOG")}
	e := p.Open(s, zap.NewNop()).(*Engine)
	e.weaken = levels[os.Getenv("FAAS_TEST_LEVEL")]
	err := p.Apply(background, e, s)
	if err == nil && os.Getenv("FAAS_TEST_SCRIPT") != "" {
		f := fn("stray", "sh -c '"+os.Getenv("FAAS_TEST_SCRIPT")+"'")
		f.Env["mode"] = "http"
		f.Secrets = []string{"s"}
		err = errors.Join(e.CreateSecret(background, secret("s"), []byte("x")), e.Create(background, f))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for n := 1; os.Getenv("FAAS_TEST_SCRIPT") == ""; n++ {
		f := fn("counter", "cat")
		f.Labels = map[string]string{faas.LabelMin: "0"}
		f.Annotations = map[string]string{"n": strconv.Itoa(n)}
		if err = e.Update(background, f); errors.Is(err, faas.ErrNotFound) {
			err = e.Create(background, f)
		}
		if err == nil {
			value := []byte(strconv.Itoa(n))
			if err = e.UpdateSecret(background, secret("counter"), value); errors.Is(err, faas.ErrNotFound) {
				err = e.CreateSecret(background, secret("counter"), value)
			}
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
	io.Copy(io.Discard, os.Stdin) // for ever: the test holds the other end
}

// TestKilledGateway kills an engine's process with SIGKILL. With a PID
// namespace nothing outlives it. Without, the watchdog ends what descends from
// it; should it have been killed as well, the next start does that.
func TestKilledGateway(t *testing.T) {
	need(t, runtime.GOOS == "linux", "/proc")
	for level := range levels {
		t.Run(level, func(t *testing.T) { killed(t, level, nil) })
		t.Run(level+", not root", func(t *testing.T) {
			need(t, os.Geteuid() == 0, "root, to become somebody else")
			killed(t, level, &syscall.Credential{Uid: 65534, Gid: 65534})
		})
	}
}

// TestStrayOfKilledWatchdog: what has lost its watchdog and cleared its environment is known by its user.
func TestStrayOfKilledWatchdog(t *testing.T) {
	need(t, runtime.GOOS == "linux" && os.Geteuid() == 0, "root on Linux")
	r := atLevel(t, "no namespaces", new(Provider))
	must(t, r.Create(background, fn("f", "cat")))
	number := strconv.Itoa(1_000_000 + rand.Intn(1_000_000_000))
	stray := exec.Command("sleep", number)
	uid := uint32(r.find(fn("f", "").ID).record().UID)
	stray.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	stray.Env = []string{}
	must(t, stray.Start())
	defer stray.Process.Kill()
	ended := make(chan struct{})
	go func() { stray.Wait(); close(ended) }()
	r.again(t)
	until(t, "the stray's end", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}

func killed(t *testing.T, level string, as *syscall.Credential) {
	base := dir(t)
	data := filepath.Join(base, "data")
	must(t, os.Mkdir(data, 0o755))
	program := filepath.Join(base, "gateway")
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, faastest.WriteProgram(program, self, 0o755))
	if as != nil {
		must(t, os.Chown(data, int(as.Uid), int(as.Gid)))
	}
	number := strconv.Itoa(1_000_000 + rand.Intn(1_000_000_000))

	gateway := exec.Command(program)
	gateway.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	gateway.Env = append(os.Environ(), "FAAS_TEST_OWNER="+data, "FAAS_TEST_WATCHDOG="+watchdog, "FAAS_TEST_LEVEL="+level, "TMPDIR="+base,
		"FAAS_TEST_SCRIPT=sleep "+number+" & setsid sleep "+number+" & wait")
	if as != nil {
		must(t, os.Chown(base, int(as.Uid), int(as.Gid)))
	}
	stdin, err := gateway.StdinPipe()
	must(t, err)
	defer stdin.Close()
	var said bytes.Buffer
	gateway.Stderr = &said
	must(t, gateway.Start())
	defer func() {
		if t.Failed() {
			t.Logf("gateway: %s", said.String())
		}
	}()
	sleeps := "sleep\x00" + number + "\x00"
	until(t, "both sleeps run", func() bool { return len(withCommand(sleeps)) == 2 })
	inside := withCommand(sleeps)
	namespaced := level == "best" && differ(inside[0])
	must(t, gateway.Process.Kill())
	gateway.Wait()
	if level == "best" {
		need(t, namespaced, "leave to make PID namespaces")
		until(t, "nothing is left", func() bool { return len(withCommand(number)) == 0 })
	} else {
		until(t, "nothing is left", func() bool { return len(withCommand(number)) == 0 })
	}
	t.Setenv("TMPDIR", base) // if only this start is root's the runtime directory is another one, but the data directory tells as well
	r := open(t, data)
	r.weaken = levels[level]
	must(t, r.apply())
	must(t, r.Remove(background, faas.ID{Name: "stray", Namespace: faas.DefaultNamespace}))
	must(t, r.Close())
	until(t, "nothing is left after the next start", func() bool { return len(withCommand(number)) == 0 })
}

// TestKilledWhileWriting kills a program that writes a record and a secret again and again:
// what it was told to be kept must be there, whole.
func TestKilledWhileWriting(t *testing.T) {
	data := dir(t)
	for round := range 5 {
		gateway := exec.Command(os.Args[0])
		gateway.Env = append(os.Environ(), "FAAS_TEST_OWNER="+data, "FAAS_TEST_WATCHDOG="+watchdog, "FAAS_TEST_SCRIPT=")
		out, err := gateway.StdoutPipe()
		must(t, err)
		must(t, gateway.Start())
		lines, last := bufio.NewScanner(out), 0
		for lines.Scan() {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(lines.Text())
			}
			if last == 20+round {
				gateway.Process.Kill()
			}
		}
		gateway.Wait()
		r := open(t, data)
		must(t, r.apply())
		all, err := r.List(background)
		must(t, err)
		if len(all) != 1 {
			t.Fatalf("%d functions, want 1: %v", len(all), r.log.All())
		}
		if n, err := strconv.Atoi(all[0].Annotations["n"]); err != nil || n < last || n > last+1 {
			t.Errorf("kept %q, acknowledged %d", all[0].Annotations["n"], last)
		}
		value, err := os.ReadFile(r.secrets.path(secret("counter")))
		must(t, err)
		if n, err := strconv.Atoi(string(value)); err != nil || n < last || n > last+1 || len(list(string(r.secrets))) != 1 {
			t.Errorf("the secret is %q, acknowledged %d; kept are %v", value, last, list(string(r.secrets)))
		}
		must(t, r.Close())
	}
}

// withCommand lists the processes whose command line contains a text.
func withCommand(text string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(text)) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

// differ tells whether a process has another PID namespace than this one.
func differ(pid string) bool {
	ours, _ := os.Readlink("/proc/self/ns/pid")
	theirs, err := os.Readlink("/proc/" + pid + "/ns/pid")
	return err == nil && ours != theirs
}
