package deploy

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

const unit = "caddy-faas.service"

// setting is the value of one setting of the unit.
func setting(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile("(?m)^" + name + "=(.*)$").FindStringSubmatch(read(t, unit))
	if m == nil {
		t.Fatalf("%s has no %s", unit, name)
	}
	return m[1]
}

// gatewayProgram is bin/caddy.
func gatewayProgram(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../bin/caddy")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		lacking(t, "caddy", "build it with ./xcaddy.sh")
	}
	return path
}

func TestUnitIsValid(t *testing.T) {
	needs(t, "systemd-analyze")
	text := strings.ReplaceAll(read(t, unit), "/usr/local/bin/caddy", gatewayProgram(t))
	file := filepath.Join(t.TempDir(), unit)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := run(nil, "systemd-analyze", "verify", "--man=no", file); err != nil || strings.Contains(out, unit) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// With no more than the unit leaves it of root's powers, the gateway keeps
// functions apart as it does with all of them.
func TestUnitPowers(t *testing.T) {
	caddy := gatewayProgram(t)
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs root on Linux")
	}
	setpriv := needs(t, "setpriv")
	if setting(t, "NoNewPrivileges") != "yes" {
		t.Error("NoNewPrivileges is not set, as this test has it")
	}
	bound := "-all"
	for _, power := range strings.Fields(setting(t, "CapabilityBoundingSet")) {
		bound += ",+" + strings.ToLower(strings.TrimPrefix(power, "CAP_"))
	}
	isolation := regexp.MustCompile(`"local provider started","isolation":"([^"]*)"`)
	whole := isolation.FindString(gatewayLog(t, caddy))
	bounded := isolation.FindString(gatewayLog(t, setpriv, "--no-new-privs", "--bounding-set", bound, "--", caddy))
	if whole == "" || bounded != whole {
		t.Errorf("with the unit's powers: %s\nwith all: %s", bounded, whole)
	}
}

// gatewayLog runs a gateway until a function of it has answered, and been ended and started again.
func gatewayLog(t *testing.T, command ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fu") // short, for the admin socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	site := "http://127.0.0.1:" + freePort(t)
	if err := os.WriteFile(dir+"/stack.yml", []byte("functions:\n  who:\n    fprocess: id -u\n    limits:\n      memory: 64Mi\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	env := append(os.Environ(), "FAAS_DATA="+dir+"/data", "FAAS_FUNCTIONS="+dir+"/stack.yml", "FAAS_SITE="+site, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	mustRun(t, []string{"FAAS_DATA=" + dir + "/data"}, command[len(command)-1], "faas", "init")
	c := exec.Command(command[0], append(command[1:], "run", "--config", "../Caddyfile")...)
	c.Env, c.Stdout, c.Stderr = env, log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Signal(syscall.SIGTERM); c.Wait() }()
	answers := func() bool {
		resp, err := http.Get(site + "/function/who")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	eventually(t, "the function answers", answers)
	password := strings.TrimSpace(read(t, dir+"/data/admin.password"))
	r, err := http.NewRequest("POST", site+"/system/scale-function/who", strings.NewReader(`{"replicas":0}`))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", password)
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("scaling to 0: %v %+v", err, resp)
	}
	resp.Body.Close()
	eventually(t, "the function answers again", answers)
	return read(t, dir+"/log")
}
