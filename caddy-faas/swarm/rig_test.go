package swarm

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

var background = context.Background()

// run keeps what this run of the tests makes apart from everything else on the engine.
var run = fmt.Sprintf("faas-test-%06x", rand.IntN(1<<24))

// image is a watchdog and BusyBox, made for this run.
var image = run + ":1"

// lacking is why tests on the real engine can't run; nil if they can.
var lacking = sync.OnceValue(prepare)

// leave undoes what prepare did.
var leave []func()

// asCaddy makes the test binary Caddy itself, with this project's modules: modules_test.go has them.
const asCaddy = "FAAS_TEST_AS_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	code := m.Run()
	for _, undo := range slices.Backward(leave) {
		undo()
	}
	os.Exit(code)
}

// prepare makes the machine's engine a swarm, if it is in none, a network and an image of scratch.
func prepare() error {
	state, err := dockerCLI("info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}")
	if err != nil {
		return err
	}
	switch state {
	case "active true":
	case "inactive false":
		if _, err := dockerCLI("swarm", "init", "--advertise-addr", "127.0.0.1"); err != nil {
			return err
		}
		leave = append(leave, func() { dockerCLI("swarm", "leave", "--force") })
	default:
		return fmt.Errorf("the Docker engine is no manager of its swarm: %s", state)
	}
	if _, err := dockerCLI("network", "create", "--driver", "overlay", "--attachable", run); err != nil {
		return err
	}
	leave = append(leave, func() { removeUnused("image", image); removeUnused("network", run) })
	return makeImage(image)
}

// removeUnused removes what replicas that end may use until they have ended.
func removeUnused(what, name string) {
	for late := time.Now().Add(faastest.Patience); ; {
		_, err := dockerCLI(what, "rm", name)
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "no such") || time.Now().After(late) {
			return
		}
		removeEnded()
		<-time.After(100 * time.Millisecond)
	}
}

// removeEnded removes containers of jobs, which Docker leaves behind when their service is removed.
func removeEnded() {
	if ids, _ := dockerCLI("ps", "--all", "--quiet", "--filter", "status=exited", "--filter", "name="+run); ids != "" {
		dockerCLI(append([]string{"rm"}, strings.Fields(ids)...)...)
	}
}

// makeImage imports an image with a static watchdog at / and BusyBox.
func makeImage(tag string) error {
	dir, err := os.MkdirTemp("", run)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	watchdog := filepath.Join(dir, "fwatchdog")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", watchdog, "../../watchdog")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the watchdog: %w: %s", err, out)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("BusyBox is missing: apt-get install busybox-static: %w", err)
	}
	if file, err := elf.Open(busybox); err != nil || file.Section(".interp") != nil {
		return fmt.Errorf("%s is not static: apt-get install busybox-static", busybox)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = errors.Join(add(w, "fwatchdog", watchdog), add(w, "bin/busybox", busybox))
	for _, name := range []string{"sh", "cat", "sleep", "id", "ls", "wget", "env", "httpd", "grep", "wc", "touch", "true", "false", "nslookup"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "bin/" + name, Linkname: "bin/busybox", Mode: 0o755}))
	}
	err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}), w.Close())
	if err != nil {
		return err
	}
	load := exec.Command("docker", "import", "-c", `CMD ["/fwatchdog"]`, "-c", "ENV PATH=/bin fprocess=cat", "-", tag)
	load.Stdin = &b
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("importing an image: %w: %s", err, out)
	}
	return nil
}

// add puts a program into an image.
func add(w *tar.Writer, name, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// dockerCLI runs Docker's own client.
func dockerCLI(args ...string) (string, error) {
	out, err := exec.Command("docker", args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

// needDocker skips a test where there is no engine, unless FAAS_TEST_REQUIRE says that there must be one.
func needDocker(t testing.TB) {
	t.Helper()
	if err := lacking(); err != nil {
		faastest.Lacking(t, "docker", err)
	}
}

// A rig is an engine under test, on a network of its own.
type rig struct {
	*Engine
	log *observer.ObservedLogs
}

// begin opens the provider. Tests run outside containers, where the replicas'
// addresses can't be reached, so it takes running replicas for ready.
func begin(t *testing.T, p *Provider) *rig {
	t.Helper()
	needDocker(t)
	p.Network = run
	t.Cleanup(tidy)
	return open(t, p)
}

func open(t *testing.T, p *Provider) *rig {
	t.Helper()
	client, err := newDocker(p.Endpoint)
	must(t, err)
	p.docker = client
	core, log := observer.New(zapcore.DebugLevel)
	e := p.Open(faas.Settings{}, zap.New(core)).(*Engine)
	e.table.ask = func(context.Context, string) error { return nil }
	must(t, p.Apply(background, e, faas.Settings{}))
	t.Cleanup(func() { must(t, e.Close()) })
	return &rig{e, log}
}

// tidy removes what a test has made.
func tidy() {
	services, _ := dockerCLI("service", "ls", "--format", "{{.Name}}")
	secrets, _ := dockerCLI("secret", "ls", "--format", "{{.Name}}", "--filter", "label="+labelNetwork+"="+run)
	ours := slices.DeleteFunc(strings.Fields(services), func(name string) bool { return !strings.Contains(name, run) })
	for what, names := range map[string][]string{"service": ours, "secret": strings.Fields(secrets)} {
		if len(names) > 0 {
			dockerCLI(append([]string{what, "rm"}, names...)...)
		}
	}
}

// cli runs Docker's own client.
func cli(t testing.TB, args ...string) string {
	t.Helper()
	out, err := dockerCLI(args...)
	must(t, err)
	return out
}

// fn is a function of this run.
func (r *rig) fn(name, process string) faas.Function {
	return faas.Function{
		ID: faas.ID{Name: run + "-" + name, Namespace: faas.DefaultNamespace}, Image: image, Process: process,
		Env: map[string]string{"healthcheck_interval": "0s"},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var eventually = faastest.Eventually
