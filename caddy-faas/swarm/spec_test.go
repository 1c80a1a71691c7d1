package swarm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func optionsOf(t *testing.T, p Provider) *options {
	t.Helper()
	o, err := p.options()
	must(t, err)
	return o
}

// whole asks for everything that a definition can.
var whole = faas.Function{
	ID: faas.ID{Name: "f", Namespace: "ns"}, Image: "img", Process: "cat -n", Env: map[string]string{"A": "1=2", "max_request": "5"},
	Labels: map[string]string{
		"com.openfaas.scale.min": "2", faas.LabelTimeout: "1m", faas.LabelRequest: "1Mi", faas.LabelResponse: "2Mi", faas.LabelProcesses: "50", faas.LabelOpenFiles: "64",
		faas.LabelUser: "65534:65534", faas.LabelCapDrop: "ALL", faas.LabelInit: "true", faas.LabelTmpfs: "/tmp,/run=1Mi", faas.LabelHealthcheck: "/fwatchdog -run-healthcheck",
		faas.LabelMaxPerNode: "3", faas.LabelUpdateOrder: "stop-first", faas.LabelUpdateParallelism: "2", faas.LabelUpdateDelay: "3", faas.LabelUpdateFailure: "pause",
	},
	Annotations: map[string]string{"note": "two\nlines"}, Constraints: []string{"node.role == worker"},
	Limits:                 faas.Resources{"memory": "1Mi", "cpu": "500m"},
	Requests:               faas.Resources{"memory": "32Mi", "cpu": "1m", "nvidia.com/gpu": "2", "SSD": "1"},
	ReadOnlyRootFilesystem: true,
}

func TestSpec(t *testing.T) {
	o := optionsOf(t, Provider{Network: "net", LogDriver: "local", LogOptions: map[string]string{"max-size": "1m"}})
	s, err := o.spec(whole, nil)
	must(t, err)
	c := s.TaskTemplate.ContainerSpec
	yes, delay, two := true, time.Second, uint64(2)
	for what, pair := range map[string][2]any{
		"name":          {s.Name, "ns_f"},
		"function":      {s.Labels[labelFunction] + " " + s.Labels[labelNamespace], "f ns"},
		"label":         {s.Labels[faas.LabelMaxPerNode], "3"},
		"on containers": {c.Labels, map[string]string{labelFunction: "f", labelNamespace: "ns"}},
		"replicas":      {s.Mode.Replicated.Replicas, &two},
		"env":           {c.Env, []string{"A=1=2", "exec_timeout=1m0s", "fprocess=cat -n", "max_request=5", "max_response=2097152"}},
		"grace":         {*c.StopGracePeriod, time.Minute + 3*time.Second + 8*time.Second},
		"user":          {c.User, "65534:65534"},
		"cap_drop":      {c.CapabilityDrop, []string{"ALL"}},
		"init":          {c.Init, &yes},
		"read-only":     {c.ReadOnly, true},
		"ulimits":       {c.Ulimits, []*container.Ulimit{{Name: "nofile", Soft: 64, Hard: 64}}},
		"health":        {c.Healthcheck.Test, []string{"CMD", "/fwatchdog", "-run-healthcheck"}},
		"tmpfs": {c.Mounts, []mount.Mount{
			{Type: mount.TypeTmpfs, Target: "/tmp", TmpfsOptions: &mount.TmpfsOptions{Mode: 0o1777}},
			{Type: mount.TypeTmpfs, Target: "/run", TmpfsOptions: &mount.TmpfsOptions{Mode: 0o1777, SizeBytes: 1 << 20}},
		}},
		"limits":      {s.TaskTemplate.Resources.Limits, &swarm.Limit{NanoCPUs: 5e8, MemoryBytes: 6 << 20, Pids: 50}},
		"reservation": {s.TaskTemplate.Resources.Reservations.MemoryBytes, int64(32 << 20)},
		"generic": {s.TaskTemplate.Resources.Reservations.GenericResources, []swarm.GenericResource{
			{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "SSD", Value: 1}}, {DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: "NVIDIA-GPU", Value: 2}},
		}},
		"placement": {s.TaskTemplate.Placement, &swarm.Placement{Constraints: []string{"node.role == worker"}, MaxReplicas: 3}},
		"networks":  {s.TaskTemplate.Networks, []swarm.NetworkAttachmentConfig{{Target: "net", Aliases: []string{"f.ns"}}}},
		"logging":   {s.TaskTemplate.LogDriver, &swarm.Driver{Name: "local", Options: map[string]string{"max-size": "1m"}}},
		"restart":   {s.TaskTemplate.RestartPolicy, &swarm.RestartPolicy{Condition: "any", Delay: &delay}},
		"update":    {s.UpdateConfig, &swarm.UpdateConfig{Parallelism: 2, Delay: 3 * time.Second, FailureAction: "pause", Monitor: 5 * time.Second, Order: "stop-first"}},
		"endpoint":  {s.EndpointSpec.Mode, swarm.ResolutionModeDNSRR},
		"record":    {functionOf(&s, whole.ID), whole},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s is %+v, want %+v", what, pair[0], pair[1])
		}
	}
	if id, ok := identity(&s); !ok || id != whole.ID {
		t.Errorf("it is taken for %s", id)
	}
}

func TestSpecDefaults(t *testing.T) {
	o := optionsOf(t, Provider{User: "1000", CapDrop: []string{"NET_RAW"}})
	plain := faas.Function{ID: faas.ParseID("f"), Image: "img"}
	s, err := o.spec(plain, nil)
	must(t, err)
	c := s.TaskTemplate.ContainerSpec
	if s.Name != "f" || c.User != "1000" || !slices.Equal(c.CapabilityDrop, []string{"NET_RAW"}) || c.Mounts != nil || c.Healthcheck != nil || c.Init != nil ||
		*c.StopGracePeriod != 41*time.Second || s.UpdateConfig.Order != "start-first" || s.UpdateConfig.FailureAction != "rollback" {
		t.Errorf("%+v, %+v", s, c)
	}
	plain.ReadOnlyRootFilesystem = true
	s, err = o.spec(plain, nil)
	must(t, err)
	if m := s.TaskTemplate.ContainerSpec.Mounts; len(m) != 1 || m[0].Target != "/tmp" {
		t.Errorf("a read-only root comes with the mounts %+v", m)
	}
}

func TestGracePeriod(t *testing.T) {
	for env, want := range map[string]time.Duration{
		"": 30 * time.Second, "exec_timeout=5s": 5 * time.Second, "write_timeout=7": 7 * time.Second, "exec_timeout=0": time.Hour, "exec_timeout=x": 30 * time.Second,
	} {
		name, value, _ := strings.Cut(env, "=")
		if got := gracePeriod(faas.Function{Env: map[string]string{name: value, "healthcheck_interval": "1s"}}); got != want+9*time.Second {
			t.Errorf("%s: %s", env, got)
		}
	}
}

func TestSpecRefusals(t *testing.T) {
	o := optionsOf(t, Provider{})
	for want, change := range map[string]func(*faas.Function){
		"63":                        func(f *faas.Function) { f.Name, f.Namespace = strings.Repeat("n", 40), strings.Repeat("s", 40) },
		"image":                     func(f *faas.Function) { f.Image = "UPPER:::x" },
		"limit of memory":           func(f *faas.Function) { f.Limits = faas.Resources{"memory": "lots"} },
		"request of nvidia.com/gpu": func(f *faas.Function) { f.Requests = faas.Resources{"nvidia.com/gpu": "x"} },
		`constraint "gpu"`:          func(f *faas.Function) { f.Constraints = []string{"node.role==worker", "gpu"} },
		"variable":                  func(f *faas.Function) { f.Env = map[string]string{"A=B": ""} },
		faas.LabelUpdateOrder:       func(f *faas.Function) { f.Labels = map[string]string{faas.LabelUpdateOrder: "first"} },
		faas.LabelUpdateFailure:     func(f *faas.Function) { f.Labels = map[string]string{faas.LabelUpdateFailure: "cry"} },
		faas.LabelTmpfs:             func(f *faas.Function) { f.Labels = map[string]string{faas.LabelTmpfs: "tmp"} },
		faas.LabelHealthcheck:       func(f *faas.Function) { f.Annotations = map[string]string{faas.LabelHealthcheck: "[1]"} },
		faas.LabelInit:              func(f *faas.Function) { f.Labels = map[string]string{faas.LabelInit: "perhaps"} },
		faas.LabelMaxPerNode:        func(f *faas.Function) { f.Labels = map[string]string{faas.LabelMaxPerNode: "-1"} },
		faas.LabelTimeout:           func(f *faas.Function) { f.Labels = map[string]string{faas.LabelTimeout: "soon"} },
	} {
		fn := faas.Function{ID: faas.ParseID("f"), Image: "img"}
		change(&fn)
		if _, err := o.spec(fn, nil); !errors.Is(err, faas.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Whoever made a service: it has the function's label.
func TestIdentity(t *testing.T) {
	spec := func(name string, service, container map[string]string) *swarm.ServiceSpec {
		return &swarm.ServiceSpec{Annotations: swarm.Annotations{Name: name, Labels: service}, TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Labels: container}}}
	}
	for want, s := range map[string]*swarm.ServiceSpec{
		"hello.openfaas-fn":       spec("demo_hello", map[string]string{labelFunction: "hello", "com.docker.stack.namespace": "demo"}, nil),
		"func_echoit.openfaas-fn": spec("func_echoit", map[string]string{"com.docker.stack.namespace": "func"}, map[string]string{"function": "true"}),
		"plain.openfaas-fn":       spec("plain", map[string]string{"function": "true"}, nil),
		"named.openfaas-fn":       spec("named", map[string]string{labelFunction: "true"}, nil),
		"old.openfaas-fn":         spec("x", nil, map[string]string{labelFunction: "old"}),
		"f.dev":                   spec("dev_f", map[string]string{labelFunction: "f", labelNamespace: "dev"}, nil),
		"":                        spec("gateway", map[string]string{"function": "false"}, nil),
	} {
		id, ok := identity(s)
		if ok != (want != "") || ok && id.String() != want {
			t.Errorf("%s is taken for %s, %v", s.Name, id, ok)
		}
	}
}

func TestReadSpec(t *testing.T) {
	s := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "st_f", Labels: map[string]string{
		labelFunction: "f", "com.docker.stack.image": "x", faas.LabelMax: "3", "com.openfaas.annotations.note": "hello",
	}}, TaskTemplate: swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{
			Image: "img:1@sha256:abc", Labels: map[string]string{"own": "1"}, Env: []string{"fprocess=cat", "A=1", "port=9000"}, ReadOnly: true,
			Secrets: []*swarm.SecretReference{{File: &swarm.SecretReferenceFileTarget{Name: secretDir + "key"}}},
		},
		Placement: &swarm.Placement{Constraints: []string{"node.role==manager"}},
		Resources: &swarm.ResourceRequirements{Limits: &swarm.Limit{MemoryBytes: 64 << 20, NanoCPUs: 5e8}, Reservations: &swarm.Resources{MemoryBytes: 1000}},
	}}
	want := faas.Function{
		ID: faas.ParseID("f"), Image: "img:1", Process: "cat", Env: map[string]string{"A": "1", "port": "9000"},
		Labels: map[string]string{faas.LabelMax: "3", "own": "1"}, Annotations: map[string]string{"note": "hello"}, Secrets: []string{"key"},
		Constraints: []string{"node.role==manager"}, Limits: faas.Resources{"memory": "64Mi", "cpu": "500m"}, Requests: faas.Resources{"memory": "1000"},
		ReadOnlyRootFilesystem: true,
	}
	if got := functionOf(&s, want.ID); !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v, want\n%+v", got, want)
	}
	if got := port(s.TaskTemplate.ContainerSpec); got != "9000" {
		t.Errorf("port %s", got)
	}
}

// What people change with Docker's own tools survives an update, unless it is about that.
func TestMerge(t *testing.T) {
	o := optionsOf(t, Provider{})
	old := faas.Function{
		ID: faas.ParseID("f"), Image: "img:1", Env: map[string]string{"A": "1", "B": "1"}, Labels: map[string]string{"l": "1", "gone": "1"},
		Constraints: []string{"c==1"}, Limits: faas.Resources{"memory": "64Mi"},
	}
	before, err := o.spec(old, nil)
	must(t, err)
	now := clone(t, before)
	five := uint64(5)
	now.Mode.Replicated.Replicas = &five
	now.Labels["theirs"] = "1"
	c := now.TaskTemplate.ContainerSpec
	c.Env = append(c.Env, "THEIRS=1")
	c.Image += "@sha256:abc"
	c.Mounts = append(c.Mounts, mount.Mount{Type: mount.TypeVolume, Source: "v", Target: "/data"})
	c.Hosts = []string{"10.0.0.1 db"}
	now.TaskTemplate.Placement.Constraints = append(now.TaskTemplate.Placement.Constraints, "theirs")
	now.TaskTemplate.Resources.Limits.MemoryBytes = 128 << 20
	now.UpdateConfig.Parallelism = 7
	now.EndpointSpec.Ports = []swarm.PortConfig{{TargetPort: 8080}}

	next := old
	next.Image, next.Env, next.Labels, next.Constraints = "img:2", map[string]string{"B": "2"}, map[string]string{"l": "2", faas.LabelTmpfs: "/tmp"}, []string{"c==2"}
	after, err := o.spec(next, nil)
	must(t, err)
	got := merge(now, before, after)
	c = got.TaskTemplate.ContainerSpec
	_, gone := got.Labels["gone"]
	for what, ok := range map[string]bool{
		"image":       c.Image == "img:2",
		"env":         slices.Equal(c.Env, []string{"THEIRS=1", "B=2"}),
		"labels":      got.Labels["l"] == "2" && got.Labels["theirs"] == "1" && !gone && got.Labels[labelFunction] == "f",
		"record":      reflect.DeepEqual(functionOf(&got, old.ID), next),
		"mounts":      len(c.Mounts) == 2 && c.Mounts[0].Target == "/data" && c.Mounts[1].Target == "/tmp",
		"hosts":       len(c.Hosts) == 1,
		"constraints": slices.Equal(got.TaskTemplate.Placement.Constraints, []string{"theirs", "c==2"}),
		"memory":      got.TaskTemplate.Resources.Limits.MemoryBytes == 128<<20,
		"parallelism": got.UpdateConfig.Parallelism == 7,
		"replicas":    *got.Mode.Replicated.Replicas == 5,
		"ports":       len(got.EndpointSpec.Ports) == 1,
		"rolls":       got.TaskTemplate.ForceUpdate == now.TaskTemplate.ForceUpdate+1,
		"now is kept": now.TaskTemplate.ContainerSpec.Image == "img:1@sha256:abc" && now.Labels["gone"] == "1",
	} {
		if !ok {
			t.Errorf("%s: %+v", what, got)
		}
	}
	next.Limits = faas.Resources{"memory": "32Mi"}
	after, err = o.spec(next, nil)
	must(t, err)
	if got := merge(now, before, after); got.TaskTemplate.Resources.Limits.MemoryBytes != 32<<20 {
		t.Errorf("a new limit became %d", got.TaskTemplate.Resources.Limits.MemoryBytes)
	}
	if bare := (swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{}}}); merge(bare, emptySpec(), after).Labels[labelFunction] != "f" {
		t.Error("a service that somebody else made")
	}
}

func clone(t *testing.T, s swarm.ServiceSpec) (c swarm.ServiceSpec) {
	b, err := json.Marshal(s)
	must(t, err)
	must(t, json.Unmarshal(b, &c))
	return c
}

func TestAllowed(t *testing.T) {
	o := optionsOf(t, Provider{RequireRegistry: []string{"registry.example.com/team/", "docker.io/library/"}})
	digest := "@sha256:" + strings.Repeat("a", 64)
	for image, want := range map[string]error{
		"registry.example.com/team/x:1": nil, "redis": nil, "registry.example.com/other/x": faas.ErrForbidden, "user/x": faas.ErrForbidden, "UPPER": faas.ErrInvalid,
	} {
		if err := o.allowed(image); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", image, err, want)
		} else if errors.Is(err, faas.ErrForbidden) && !strings.Contains(err.Error(), "require_registry") {
			t.Errorf("the rule is not named: %v", err)
		}
	}
	o = optionsOf(t, Provider{RequireDigest: true})
	if err := o.allowed("x" + digest); err != nil {
		t.Error(err)
	}
	if err := o.allowed("x:1"); !errors.Is(err, faas.ErrForbidden) || !strings.Contains(err.Error(), "require_digest") {
		t.Errorf("without a digest: %v", err)
	}
	if err := optionsOf(t, Provider{}).allowed("anything"); err != nil {
		t.Error(err)
	}
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	must(t, os.WriteFile(file, []byte(`{"auths":{"registry.example.com":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("me:pass:word"))+`"},
		"https://index.docker.io/v1/":{"username":"hub","password":"secret"}}}`), 0o600))
	o := optionsOf(t, Provider{RegistryAuth: file})
	for image, want := range map[string]credentials{
		"registry.example.com/x": {Username: "me", Password: "pass:word", ServerAddress: "registry.example.com"},
		"redis":                  {Username: "hub", Password: "secret", ServerAddress: "https://index.docker.io/v1/"},
		"other.example.com/x":    {},
	} {
		text, err := o.authFor(image)
		must(t, err)
		var got credentials
		if text != "" {
			b, err := base64.URLEncoding.DecodeString(text)
			must(t, err)
			must(t, json.Unmarshal(b, &got))
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", image, got, want)
		}
	}
	for bad, want := range map[string]string{
		`pass`: "config.json", `{}`: "no credentials", `{"credsStore":"pass"}`: "credential helper", `{"auths":{"r":{"auth":"cGFzcw=="}}}`: "USER:PASSWORD",
		`{"auths":{"r":{}}}`: "auths: r", `{"auths":{"r":{"auth":"%%pass%%"}}}`: "base64",
	} {
		must(t, os.WriteFile(file, []byte(bad), 0o600))
		_, err := (&Provider{RegistryAuth: file}).options()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%%") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"auths":{"r":{"auth":"YTpi"},"https://x/v1/":{"username":"a","password":"b"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseCredentials(text)
		for server, c := range all {
			if err != nil || server != registryHost(c.ServerAddress) || c.Username == "" && c.IdentityToken == "" && c.RegistryToken == "" {
				t.Errorf("%q: %+v, %v", server, c, err)
			}
		}
	})
}

func FuzzSpec(f *testing.F) {
	f.Add("/tmp,/run=1Mi", "/fwatchdog -run-healthcheck", "2", "3s", "ALL", "128Mi")
	f.Add("/", `["a","b"]`, "x", "1", ",", "1e3")
	o := &options{network: "n"}
	f.Fuzz(func(t *testing.T, tmpfs, health, number, wait, caps, memory string) {
		if !utf8.ValidString(tmpfs + health + number + wait + caps + memory) {
			return // JSON, which they come by, is
		}
		fn := faas.Function{ID: faas.ParseID("f"), Image: "img", Limits: faas.Resources{"memory": memory}, Labels: map[string]string{
			faas.LabelTmpfs: tmpfs, faas.LabelHealthcheck: health, faas.LabelMaxPerNode: number, faas.LabelUpdateDelay: wait, faas.LabelCapDrop: caps,
		}}
		s, err := o.spec(fn, nil)
		if err != nil {
			if !errors.Is(err, faas.ErrInvalid) {
				t.Errorf("%v", err)
			}
			return
		}
		c, r := s.TaskTemplate.ContainerSpec, s.TaskTemplate.Resources.Limits
		if s.UpdateConfig.Delay < 0 || c.Healthcheck != nil && len(c.Healthcheck.Test) == 0 || r.MemoryBytes != 0 && r.MemoryBytes < minMemory {
			t.Errorf("%+v, %+v, %+v", s.UpdateConfig, c.Healthcheck, r)
		}
		if got := functionOf(&s, fn.ID); !reflect.DeepEqual(got, fn) {
			t.Errorf("%+v became %+v", fn, got)
		}
	})
}
