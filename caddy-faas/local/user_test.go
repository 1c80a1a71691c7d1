package local

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// atLevel starts an engine with less isolation than there is.
func atLevel(t *testing.T, level string, provider *Provider) *rig {
	t.Helper()
	r := open(t, dir(t))
	r.provider = provider
	r.weaken = levels[level]
	must(t, r.apply())
	return r
}

const whoami = `sh -c 'id -u; id -g; id -G; pwd; echo $HOME; grep NoNewPrivs /proc/self/status'`

func TestUser(t *testing.T) {
	need(t, os.Geteuid() == 0 && runtime.GOOS == "linux", "root on Linux")
	for _, level := range []string{"best", "no namespaces"} {
		for _, user := range []string{"", "nobody", "12345", "root"} {
			t.Run(fmt.Sprintf("%s, %q", level, user), func(t *testing.T) {
				r := atLevel(t, level, &Provider{User: user})
				watch := faastest.Record(t, r, nil)
				var uids []int
				for _, name := range []string{"a", "b"} {
					f := fn(name, whoami)
					must(t, r.Create(background, f))
					got := strings.Split(ask(t, watch, f, ""), "\n")
					uid, err := strconv.Atoi(got[0])
					must(t, err)
					uids = append(uids, uid)
					if got[2] != got[1] || got[3] != got[4] {
						t.Errorf("groups are %s and %s, working directory is %s, HOME %s", got[1], got[2], got[3], got[4])
					}
					if uid != 0 && !strings.HasSuffix(got[5], "1") {
						t.Errorf("user %d has %s", uid, got[5])
					}
				}
				want := map[string]int{"nobody": 65534, "12345": 12345}[user]
				if user == "" {
					if uids[0] == uids[1] || uids[0] < firstUID || uids[1] < firstUID {
						t.Errorf("users are %v", uids)
					}
				} else if uids[0] != want || uids[1] != want {
					t.Errorf("users are %v, want %d", uids, want)
				}
			})
		}
	}
}

// TestSocketIsOutOfReach: the gateway, which is root, follows whatever is at
// the address of a replica; a function must not be able to change that.
func TestSocketIsOutOfReach(t *testing.T) {
	need(t, os.Geteuid() == 0 && runtime.GOOS == "linux", "root on Linux")
	for _, level := range []string{"best", "no namespaces"} {
		for _, user := range []string{"", "nobody"} {
			t.Run(fmt.Sprintf("%s, %q", level, user), func(t *testing.T) {
				r := atLevel(t, level, &Provider{User: user})
				watch := faastest.Record(t, r, nil)
				target := filepath.Join(dir(t), "admin")
				admin, err := net.Listen("unix", target)
				must(t, err)
				defer admin.Close()
				f := fn("f", fmt.Sprintf(`sh -c 'read d; echo in; rm -f $d/s; mv -f $d/s $d/t; ln -sf %s $d/s; touch $d/new; chmod 777 $d/s; mv $d $d.old'`, target))
				f.Env["combine_output"] = "true"
				must(t, r.Create(background, f))
				socket := strings.TrimPrefix(watch.UntilReady(t, f.ID, 1)[0].Addr, "unix/")
				for range 2 { // the second would be answered by whatever the first has put there
					if got, err := call("unix/"+socket, filepath.Dir(socket)+"\n"); err == nil && !strings.HasPrefix(got, "in\n") {
						t.Fatalf("answer is %q", got)
					}
				}
				info, err := os.Lstat(socket)
				must(t, err)
				if info.Mode() != os.ModeSocket|0o600 || !mine(info) {
					t.Errorf("the socket is %v now, or not ours", info.Mode())
				}
				info, err = os.Lstat(filepath.Dir(socket))
				must(t, err)
				if info.Mode() != os.ModeDir|0o711 || !mine(info) {
					t.Errorf("its folder is %v, or not ours", info.Mode())
				}
				for _, name := range list(filepath.Dir(socket)) {
					if !slices.Contains([]string{"s", "handler", "work", "tmp", "secrets"}, name) {
						t.Errorf("the function has made %s", name)
					}
				}
			})
		}
	}
}

func TestUserStays(t *testing.T) {
	need(t, os.Geteuid() == 0 && runtime.GOOS == "linux", "root on Linux")
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "sh -c 'id -u >> who; mkdir -p deep; touch deep/x; cat who'")
	must(t, r.Create(background, f))
	first := ask(t, watch, f, "")
	r = r.again(t)
	watch = faastest.Record(t, r, nil)
	if got := ask(t, watch, f, ""); got != first+first {
		t.Errorf("after a restart: %q", got)
	}
	outside := filepath.Join(dir(t), "outside")
	must(t, os.WriteFile(outside, nil, 0o600))
	work := filepath.Join(r.dir, "work", f.ID.String(), "1", "1")
	must(t, os.Symlink(outside, filepath.Join(work, "deep", "link")))
	linked := filepath.Join(r.dir, "linked")
	must(t, os.WriteFile(linked, nil, 0o600))
	must(t, os.Link(linked, filepath.Join(work, "deep", "hard")))
	r.provider = &Provider{User: "nobody"}
	r = r.again(t)
	watch = faastest.Record(t, r, nil)
	if got := ask(t, watch, f, ""); got != first+first+"65534\n" {
		t.Errorf("as another user: %q", got)
	}
	info, err := os.Stat(outside)
	must(t, err)
	if !mine(info) {
		t.Error("a link in the working directory gave away a file outside")
	}
	info, err = os.Stat(linked)
	must(t, err)
	if !mine(info) {
		t.Error("a hard link in the working directory gave away a file outside")
	}
}

func TestFolderThatTheUserCantEnter(t *testing.T) {
	need(t, os.Geteuid() == 0 && runtime.GOOS == "linux", "root on Linux")
	private := dir(t)
	must(t, os.Chmod(private, 0o700))
	folder := filepath.Join(private, "clone", "function")
	must(t, os.MkdirAll(folder, 0o755))
	script(t, folder, "run", `cat "$(dirname "$0")/text"; touch "$(dirname "$0")/new" 2>&1 | grep -o Read-only; pwd; ls -d /proc/[0-9]* | wc -l`)
	must(t, os.WriteFile(filepath.Join(folder, "text"), []byte("content\n"), 0o644))
	for _, command := range []string{"run", "./run", folder + "/run"} {
		t.Run(command, func(t *testing.T) {
			r := begin(t)
			need(t, r.iso.mount, "leave to make namespaces")
			f := fn("f", command)
			f.Handler = folder
			must(t, r.Create(background, f))
			watch := faastest.Record(t, r, nil)
			got := strings.Split(ask(t, watch, f, ""), "\n")
			replica := watch.Deployment(f.ID).Replicas[0]
			if got[0] != "content" || got[1] != "Read-only" || got[2] != filepath.Join(r.run, replica.ID, "work") {
				t.Errorf("answer is %q", got)
			}
			if n, err := strconv.Atoi(got[3]); err != nil || n > 6 {
				t.Errorf("it sees %s processes: not a /proc of its own", got[3])
			}
		})
	}
	if _, err := os.Stat(filepath.Join(folder, "text")); err != nil {
		t.Fatalf("the function's source after its replicas have gone: %v", err)
	}
	t.Run("no namespaces", func(t *testing.T) {
		r := atLevel(t, "no namespaces", new(Provider))
		f := fn("f", "run")
		f.Handler = folder
		must(t, r.Create(background, f))
		faastest.Record(t, r, nil).Until(t, "the reason", func(now map[faas.ID]faas.Deployment) bool {
			return strings.Contains(now[f.ID].Reason, fmt.Sprintf("user %d can't enter %s", r.find(f.ID).record().UID, private))
		})
	})
}

// Root's PATH may begin with folders that functions' users can't enter.
func TestPathOfOtherUsers(t *testing.T) {
	need(t, os.Geteuid() == 0, "root")
	private := dir(t)
	must(t, os.Chmod(private, 0o700))
	for _, name := range []string{"cat", "only-here"} {
		script(t, private, name, "echo private")
	}
	t.Setenv("PATH", private+":"+os.Getenv("PATH"))
	for _, level := range []string{"", "no namespaces"} {
		t.Run(level, func(t *testing.T) {
			r := atLevel(t, level, new(Provider))
			need(t, r.iso.drop, "users")
			must(t, r.Create(background, fn("a", "cat")))
			must(t, r.Create(background, fn("b", "only-here")))
			watch := faastest.Record(t, r, nil)
			if got := ask(t, watch, fn("a", ""), "public"); got != "public" {
				t.Errorf("cat answers %q", got)
			}
			b := fn("b", "").ID
			watch.Until(t, "the reason", func(now map[faas.ID]faas.Deployment) bool {
				return strings.Contains(now[b].Reason, fmt.Sprintf("user %d can't enter %s", r.find(b).record().UID, private))
			})
		})
	}
}

// TestSourceIsNeverEmptied: what is still mounted under a runtime folder must not be removed with it.
func TestSourceIsNeverEmptied(t *testing.T) {
	run := dir(t)
	must(t, os.MkdirAll(filepath.Join(run, "handler"), 0o755))
	source := filepath.Join(run, "handler", "main.go")
	must(t, os.WriteFile(source, nil, 0o644))
	if err := removeRuntime(run); err == nil {
		t.Error("no error")
	}
	_, err := os.Stat(source)
	must(t, err)
}
