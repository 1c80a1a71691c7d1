package swarm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Labels that a function's service carries. They stand on its containers as well, but for the record.
const (
	// labelFunction makes a service a function and names it.
	labelFunction = "com.openfaas.function"
	// labelNamespace is the function's namespace; without it, the default one.
	labelNamespace = "faas.namespace"
	// labelRecord is the definition as it was deployed, in JSON.
	labelRecord = "faas.deployment"
	// labelHalfway marks a service that is halfway through a scaling: see rest.
	labelHalfway = "faas.halfway"
	// labelSeed ("true") makes a service a function, too, with the service's own name.
	labelSeed = "function"
	// labelStack is set by docker stack deploy.
	labelStack = "com.docker.stack."
)

const (
	modeDNS = "dnsrr"
	modeVIP = "vip"

	// secretDir is where functions find their secrets.
	secretDir = "/var/openfaas/secrets/"
	// defaultPort is where a watchdog listens, unless its variable port says otherwise.
	defaultPort = 8080
	// minMemory and minCPU are the least limits that engines start a container with, in bytes and billionths of a core.
	minMemory, minCPU = 6 << 20, 10_000_000
	// gpu is how Kubernetes names what Docker's nodes call NVIDIA-GPU.
	gpu, gpuKind = "nvidia.com/gpu", "NVIDIA-GPU"
)

// maxServiceName is Swarm's.
const maxServiceName = 63

// serviceName is what a function's service is called, and its host name on the network.
func serviceName(id faas.ID) string {
	if id.Namespace == faas.DefaultNamespace {
		return id.Name
	}
	return id.Namespace + "_" + id.Name
}

// spec is the service for a definition, with these secrets mounted. It fails
// with ErrInvalid if there can't be any.
func (o *options) spec(fn faas.Function, secrets []*swarm.SecretReference) (swarm.ServiceSpec, error) {
	spec, err := o.build(fn, secrets)
	if err != nil {
		return spec, fmt.Errorf("%w: %w", faas.ErrInvalid, err)
	}
	return spec, nil
}

func (o *options) build(fn faas.Function, secrets []*swarm.SecretReference) (s swarm.ServiceSpec, err error) {
	name := serviceName(fn.ID)
	if len(name) > maxServiceName {
		return s, fmt.Errorf("service name %s: %d characters, more than %d", name, len(name), maxServiceName)
	}
	record, err := json.Marshal(fn)
	if err != nil {
		return s, err
	}
	container, err := o.container(fn, secrets)
	if err != nil {
		return s, err
	}
	resources, err := resourcesOf(fn)
	if err != nil {
		return s, err
	}
	perNode, err := label(fn, faas.LabelMaxPerNode, number, 0)
	if err != nil {
		return s, err
	}
	update, err := updateConfig(fn)
	if err != nil {
		return s, err
	}
	if err := checkConstraints(fn.Constraints); err != nil {
		return s, err
	}
	replicas := uint64(fn.InitialReplicas())
	s = swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: name, Labels: maps.Clone(fn.Labels)},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: container,
			Resources:     resources,
			RestartPolicy: &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionAny, Delay: &o.restartDelay},
			Placement:     &swarm.Placement{Constraints: slices.Clone(fn.Constraints), MaxReplicas: perNode},
			Networks:      []swarm.NetworkAttachmentConfig{{Target: o.network, Aliases: []string{fn.ID.String()}}},
			LogDriver:     o.logDriver,
		},
		Mode:           swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}},
		UpdateConfig:   update,
		RollbackConfig: &swarm.UpdateConfig{Parallelism: update.Parallelism, Order: update.Order, FailureAction: swarm.UpdateFailureActionPause, Monitor: update.Monitor},
		EndpointSpec:   &swarm.EndpointSpec{Mode: swarm.ResolutionMode(o.endpointMode)},
	}
	s.Labels = withIdentity(s.Labels, fn.ID)
	s.Labels[labelRecord] = string(record)
	if fn.IsJob() {
		err = o.asJob(&s, fn)
	}
	return s, err
}

// checkConstraints refuses what Swarm refuses, since it doesn't say which one it means.
func checkConstraints(all []string) error {
	for _, c := range all {
		key, value, ok := strings.Cut(c, "==")
		if !ok {
			key, value, ok = strings.Cut(c, "!=")
		}
		if !ok || strings.TrimSpace(key) == "" || strings.TrimSpace(value) == "" {
			return fmt.Errorf("constraint %q: want KEY==VALUE or KEY!=VALUE, such as node.labels.gpu==true", c)
		}
	}
	return nil
}

func withIdentity(labels map[string]string, id faas.ID) map[string]string {
	if labels == nil {
		labels = map[string]string{}
	}
	labels[labelFunction], labels[labelNamespace] = id.Name, id.Namespace
	return labels
}

func (o *options) container(fn faas.Function, secrets []*swarm.SecretReference) (*swarm.ContainerSpec, error) {
	env, err := environment(fn)
	if err != nil {
		return nil, err
	}
	grace := gracePeriod(fn)
	c := &swarm.ContainerSpec{
		Image: fn.Image, Labels: withIdentity(nil, fn.ID), Env: env, ReadOnly: fn.ReadOnlyRootFilesystem,
		StopGracePeriod: &grace, Secrets: secrets, CapabilityDrop: o.capDrop,
	}
	if err := checkImage(fn.Image); err != nil {
		return nil, err
	}
	c.User = o.user(fn)
	if c.CapabilityDrop, err = label(fn, faas.LabelCapDrop, list, o.capDrop); err != nil {
		return nil, err
	}
	if c.Init, err = label(fn, faas.LabelInit, boolean, nil); err != nil {
		return nil, err
	}
	if c.Healthcheck, err = label(fn, faas.LabelHealthcheck, healthcheck, nil); err != nil {
		return nil, err
	}
	if c.Mounts, err = label(fn, faas.LabelTmpfs, tmpfs, nil); err != nil {
		return nil, err
	}
	if c.ReadOnly && c.Mounts == nil {
		c.Mounts, _ = tmpfs("/tmp")
	}
	if files, err := label(fn, faas.LabelOpenFiles, number, 0); err != nil {
		return nil, err
	} else if files > 0 {
		c.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: int64(files), Hard: int64(files)}}
	}
	return c, nil
}

// user is who a function runs as; "": whom its image says.
func (o *options) user(fn faas.Function) string {
	user, _ := label(fn, faas.LabelUser, func(text string) (string, error) { return text, nil }, o.defaultUser)
	return user
}

func updateConfig(fn faas.Function) (u *swarm.UpdateConfig, err error) {
	// What fails within Monitor of its start is the new version's fault.
	u = &swarm.UpdateConfig{Monitor: 5 * time.Second}
	if u.Parallelism, err = label(fn, faas.LabelUpdateParallelism, number, 1); err != nil {
		return nil, err
	}
	if u.Delay, err = label(fn, faas.LabelUpdateDelay, duration, 0); err != nil {
		return nil, err
	}
	u.Order, err = label(fn, faas.LabelUpdateOrder, oneOf(swarm.UpdateOrderStartFirst, swarm.UpdateOrderStopFirst), swarm.UpdateOrderStartFirst)
	if err != nil {
		return nil, err
	}
	u.FailureAction, err = label(fn, faas.LabelUpdateFailure,
		oneOf(swarm.UpdateFailureActionRollback, swarm.UpdateFailureActionPause, swarm.UpdateFailureActionContinue), swarm.UpdateFailureActionRollback)
	return u, err
}

// resourcesOf are a function's limits and reservations. What is too little for any container is raised.
func resourcesOf(fn faas.Function) (*swarm.ResourceRequirements, error) {
	r := &swarm.ResourceRequirements{Limits: &swarm.Limit{}, Reservations: &swarm.Resources{}}
	for _, side := range []struct {
		name        string
		amounts     faas.Resources
		memory, cpu *int64
	}{
		{"limit", fn.Limits, &r.Limits.MemoryBytes, &r.Limits.NanoCPUs},
		{"request", fn.Requests, &r.Reservations.MemoryBytes, &r.Reservations.NanoCPUs},
	} {
		for _, name := range slices.Sorted(maps.Keys(side.amounts)) {
			inOne := int64(1)
			if name == faas.CPU {
				inOne = 1e9
			}
			n, err := faas.ParseQuantity(side.amounts[name], inOne)
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", side.name, name, err)
			}
			switch {
			case n == 0:
			case name == faas.Memory:
				*side.memory = max(n, minMemory)
			case name == faas.CPU:
				*side.cpu = max(n, minCPU)
			default:
				r.Reservations.GenericResources = reserve(r.Reservations.GenericResources, name, n)
			}
		}
	}
	processes, err := label(fn, faas.LabelProcesses, number, 0)
	r.Limits.Pids = int64(min(processes, math.MaxInt32))
	return r, err
}

// reserve adds a generic resource of the nodes. Named as limit and as request, it is the same one.
func reserve(all []swarm.GenericResource, name string, n int64) []swarm.GenericResource {
	if name == gpu {
		name = gpuKind
	}
	for _, r := range all {
		if r.DiscreteResourceSpec.Kind == name {
			r.DiscreteResourceSpec.Value = max(r.DiscreteResourceSpec.Value, n)
			return all
		}
	}
	return append(all, swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: name, Value: n}})
}

// environment are a function's variables, sorted; labels that the watchdog obeys are among them.
func environment(fn faas.Function) ([]string, error) {
	env := maps.Clone(fn.Env)
	if env == nil {
		env = map[string]string{}
	}
	if fn.Process != "" {
		env["fprocess"] = fn.Process
	}
	if _, declared := env["secret_mount_path"]; len(fn.Secrets) > 0 && !declared {
		env["secret_mount_path"] = strings.TrimSuffix(secretDir, "/") // as other providers say it
	}
	timeout, err := label(fn, faas.LabelTimeout, duration, 0)
	if err != nil {
		return nil, err
	}
	if timeout > 0 {
		env["exec_timeout"] = timeout.String()
	}
	for variable, name := range map[string]string{"max_request": faas.LabelRequest, "max_response": faas.LabelResponse} {
		n, err := label(fn, name, func(text string) (int64, error) { return faas.ParseQuantity(text, 1) }, 0)
		if err != nil {
			return nil, err
		}
		if _, declared := env[variable]; n > 0 && !declared {
			env[variable] = strconv.FormatInt(n, 10)
		}
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(env[name], "\x00") {
			return nil, fmt.Errorf("environment variable %q can't be set", name)
		}
		all = append(all, name+"="+env[name])
	}
	return all, nil
}

// gracePeriod is how long a replica may take to end after SIGTERM: its lame
// duck, its longest execution, and what the watchdog allows on top.
func gracePeriod(fn faas.Function) time.Duration {
	read := func(text string, absent time.Duration) time.Duration {
		switch d, ok := faas.ParseDuration(text); {
		case !ok:
			return absent
		case d == 0:
			return time.Hour // in place of no limit
		default:
			return d
		}
	}
	run := cmp.Or(fn.Timeout(), read(fn.Env["exec_timeout"], read(fn.Env["write_timeout"], 30*time.Second)))
	lame, ok := faas.ParseDuration(fn.Env["healthcheck_interval"])
	if !ok {
		lame = 3 * time.Second
	}
	return min(run, maxGrace) + min(lame, maxGrace) + 8*time.Second
}

// maxGrace bounds each part of a grace period, so that nothing that goes on for ever keeps a service from ending.
const maxGrace = 24 * time.Hour
