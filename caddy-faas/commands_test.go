package caddyfaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// faas runs `caddy faas` in the gateway's folder; status is -1 if it does not run.
func (g *gateway) faas(in string, args ...string) (out, problem string, status int) {
	c := g.caddy(append([]string{"faas"}, args...)...)
	var stdout, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &stdout, &stderr
	var ended *exec.ExitError
	switch err := c.Run(); {
	case errors.As(err, &ended):
		status = ended.ExitCode()
	case err != nil:
		status = -1
	}
	return stdout.String(), stderr.String(), status
}

// commandStep is one command: what it prints on the standard output, or what of it, and on the standard error if its status is not 0.
type commandStep struct {
	in     string
	args   string // parted by spaces; ~ stands for one
	status int
	want   string
}

func (g *gateway) steps(t *testing.T, steps ...commandStep) {
	t.Helper()
	for _, s := range steps {
		args := strings.Fields(s.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "~", " ")
		}
		out, problem, status := g.faas(s.in, args...)
		text := out
		if s.status != 0 {
			text = problem
		}
		if status != s.status || !strings.Contains(text, s.want) || (problem == "") != (status == 0) || strings.Contains(problem, `"level"`) {
			t.Errorf("caddy faas %s\nends with %d, want %d with %q; it prints\n%s\nand on stderr\n%s", s.args, status, s.status, s.want, out, problem)
		}
	}
}

// TestCommands manages functions without any other client.
func TestCommands(t *testing.T) {
	t.Parallel()
	g := newClosedGateway(t, anyCommand)
	g.write(t, "app.yml", `provider: {name: openfaas, gateway: SITE}
functions:
  app-up: {image: i, fprocess: tr a-z A-Z, labels: {of: app}}
  app-rev: {image: i, fprocess: rev}
  folder: {handler: ., fprocess: ./run}
`)
	g.steps(t,
		commandStep{"", "version", 0, "Provider:      local\n"},
		commandStep{"", "namespaces", 0, "openfaas-fn\ndev\n"},
		commandStep{"", "list", 0, "NAME  READY  INVOCATIONS  IMAGE  COMMAND\n"},
		commandStep{"", "list --json", 0, "[]\n"},
		commandStep{"", "list -n none", 3, `Error: no such namespace: "none"`},

		commandStep{"", "deploy up", 2, "usage: caddy faas deploy <name> --image <image> | -f <stack.yml>"},
		commandStep{"", "deploy up --image i --env A", 2, `--env "A": want NAME=VALUE`},
		commandStep{"", "deploy up --image functions/alpine --fprocess tr~a-z~A-Z -e A=b=c -l x= --annotation n=1,2 --memory-limit 64Mi", 0,
			"deployed up: " + g.url + "/function/up\n"},
		commandStep{"", "deploy up.dev --image functions/alpine --fprocess rev", 0, "deployed up.dev: " + g.url + "/function/up.dev\n"},
		commandStep{"", "list -q", 0, "up\n"},
		commandStep{"", "describe up", 0, "Ready:        1/1\nURL:          " + g.url + "/function/up\nImage:        functions/alpine\nCommand:      tr a-z A-Z\n"},
		commandStep{"", "describe up", 0, "Environment:  A=b=c\nLabels:       faas_function=up\n              x=\nAnnotations:  n=1,2\nLimits:       memory=64Mi\n"},
		commandStep{"", "describe nobody", 3, "Error: no such function: nobody\n"},
		commandStep{"hello\x00", "invoke up", 0, "HELLO\x00"},
		commandStep{"", "invoke up -n dev -d abc", 0, "cba"},
		commandStep{"", "invoke nobody -d x", 3, "no function named nobody"},
		commandStep{"", "deploy up --image functions/alpine --fprocess env", 0, "updated up: "},
	)
	g.answersWith(t, "up/some/path", "Http_Path=/some/path", "-m", "GET", "--query", "a=b c", "-H", "X-One: 1")
	g.steps(t,
		commandStep{"", "invoke up -m GET --query a=b~c", 0, "Http_Query=a=b+c"},
		commandStep{"", "invoke up -d x -H X-One:~1 --content-type a/b", 0, "Http_X_One=1"},
		commandStep{"", "invoke up -d x --content-type a/b", 0, "Http_Content_Type=a/b"},
		commandStep{"", "scale up 2", 0, "scaled up to 2\n"},
		commandStep{"", "describe up", 0, "\nScaled:       1 -> 2: set by hand, or by another program, at 20"},
		commandStep{"", "scale up two", 2, `replicas "two": want a number from 0`},
		commandStep{"", "scale up -1", 2, "want a number from 0"},
		commandStep{"", "scale nobody 1", 3, "no such function: nobody"},
		commandStep{"", "logs up --tail 1", 0, "\n"},
		commandStep{"", "logs up --json --since 1h", 0, `"name":"up"`},
		commandStep{"", "logs up --since yesterday", 2, "want a duration"},

		commandStep{"a\xffb\n", "secret create key", 0, "created secret key\n"},
		commandStep{"x", "secret create key", 1, "exists already"},
		commandStep{"", "secret list", 0, "key\n"},
		commandStep{"", "deploy teller --image i --secret key --fprocess sh~-c~'cat~$secret_mount_path/key'", 0, "deployed teller"},
		commandStep{"", "invoke teller -d x", 0, "a\xffb\n"},
		commandStep{"", "secret remove key", 1, "teller"},
		commandStep{"", "deploy up --image i --fprocess cat --secret none", 1, "none"},
		commandStep{"", "secret update key --from-file app.yml", 0, "updated secret key\n"},
		commandStep{"x", "secret update nothing", 3, "no such secret: nothing"},
	)
	g.answersWith(t, "teller", "app-up: {image: i", "-d", "x")
	g.steps(t,
		commandStep{"", "remove teller", 0, "removed teller\n"},
		commandStep{"", "secret remove key", 0, "removed secret key\n"},
		commandStep{"", "secret remove key", 3, "no such secret: key"},

		commandStep{"", "deploy broken --image i --fprocess no-such-program", 1, `"no-such-program" not found`},
		commandStep{"", "deploy broken --image i --fprocess sh~-c~'echo~taken~>&2;exit~3' -e mode=http", 1, "exit status 3"},
		commandStep{"", "describe broken", 0, "exit status 3"},

		commandStep{"", "deploy -f app.yml --filter app-*", 0, "deployed app-up: " + g.url + "/function/app-up\ndeployed app-rev: "},
		commandStep{"", "deploy -f app.yml --regex folder", 2, "function folder: no image"},
		commandStep{"", "deploy -f app.yml --filter x", 2, "no function is selected"},
		commandStep{"", "deploy -f none.yml", 2, "none.yml: no such file"},
		commandStep{"", "remove -f app.yml --regex up$ -g " + g.url, 0, "removed app-up\n"},
		commandStep{"", "remove nobody app-rev broken", 3, "Error: no such function: nobody\n"},
		commandStep{"", "remove up up.dev", 0, "removed up\nremoved up.dev\n"},
		commandStep{"", "list -q", 0, ""},

		commandStep{"", "frobnicate", 2, `caddy faas has no command "frobnicate"`},
		commandStep{"", "list --frobnicate", 2, "unknown flag: --frobnicate"},
		commandStep{"", "list -g http://127.0.0.1:1", 5, "can't be reached"},
		commandStep{"wrong\n", "list --password-stdin", 4, "does not take the user and password from the standard input"},
	)
	if out, _, _ := g.faas("", "list", "-q"); out != "" {
		t.Errorf("left: %s", out)
	}
}

// answersWith waits until caddy faas invoke prints a text: a changed function takes a moment.
func (g *gateway) answersWith(t *testing.T, name, want string, flags ...string) {
	t.Helper()
	eventually(t, name+" answers with "+want, func() bool {
		out, _, status := g.faas("", append([]string{"invoke", name}, flags...)...)
		return status == 0 && strings.Contains(out, want)
	})
}

// TestCommandLogin: the password comes from the state directory, else from the file that login writes.
func TestCommandLogin(t *testing.T) {
	t.Parallel()
	g := newClosedGateway(t, anyCommand)
	password := filepath.Join(g.data(), "admin.password")
	if err := os.Rename(password, password+".moved"); err != nil {
		t.Fatal(err)
	}
	g.steps(t,
		commandStep{"", "list", 4, "wants a user and password: see caddy faas login --help"},
		commandStep{"wrong\n", "login --password-stdin", 4, "does not take"},
		commandStep{"", "login", 2, "usage: caddy faas login --password-stdin"},
		commandStep{"", "logout", 3, "has no password for " + g.url},
		commandStep{g.password + "\n", "login --password-stdin", 0, "kept the password for " + g.url},
		commandStep{"", "list", 0, "NAME"},
		commandStep{"", "invoke nobody -d x", 3, "no function named nobody"},
		commandStep{"", "logout", 0, "forgot the password for " + g.url},
		commandStep{"", "list", 4, "wants a user and password"},
	)
	// A function gets no password.
	g.steps(t,
		commandStep{g.password, "login -s", 0, ""},
		commandStep{"", "deploy env --image i --fprocess env", 0, ""},
	)
	if out, _, status := g.faas("", "invoke", "env", "-m", "GET"); status != 0 || strings.Contains(strings.ToLower(out), "authorization") {
		t.Errorf("%d %s", status, out)
	}
}

// TestCommandFollow: caddy faas logs -f goes on until the function is removed, over reloads too, and shows each line once.
func TestCommandFollow(t *testing.T) {
	t.Parallel()
	g := newOpenGateway(t, anyCommand, "functions: {}\n")
	g.want(t, 202, "POST", "/system/functions", `{"service":"talker","image":"i","envProcess":"sh -c 'cat >&2'"}`)
	var out logBuffer
	c := g.caddy("faas", "logs", "talker", "-f", "--json")
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for i, words := range []string{"first words", "last words"} {
		if i > 0 {
			g.reload(t)
		}
		g.want(t, 200, "POST", "/function/talker", words)
		eventually(t, words+" are shown", func() bool { return strings.Contains(out.String(), words) })
	}
	g.want(t, 202, "DELETE", "/system/functions", `{"functionName":"talker"}`)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) || seen[line] {
			t.Errorf("not JSON, or again: %s", line)
		}
		seen[line] = true
	}
}
