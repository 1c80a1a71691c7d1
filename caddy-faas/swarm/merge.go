package swarm

import (
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

// merge makes a service's spec obey a new definition. now is as the engine has
// it; before and after are the specs of the old definition and of the new one.
// Where these two agree, what somebody has set with the engine's own tools
// stays; the replica count does in any case. Every replica is replaced, even if
// nothing has changed but what the image's name means.
func merge(now, before, after swarm.ServiceSpec) swarm.ServiceSpec {
	next := now
	next.Labels = overlay(now.Labels, before.Labels, after.Labels)
	t, was, will := now.TaskTemplate, before.TaskTemplate, after.TaskTemplate
	t.ForceUpdate++
	c := mergeContainer(*t.ContainerSpec, *was.ContainerSpec, *will.ContainerSpec)
	t.ContainerSpec = &c
	p := swarm.Placement{}
	if t.Placement != nil {
		p = *t.Placement
	}
	p.Constraints = replaced(p.Constraints, was.Placement.Constraints, will.Placement.Constraints, func(s string) string { return s })
	change(&p.MaxReplicas, was.Placement.MaxReplicas, will.Placement.MaxReplicas)
	t.Placement = &p
	t.Resources = mergeResources(t.Resources, was.Resources, will.Resources)
	if now.Mode.ReplicatedJob != nil {
		next.Mode = after.Mode // a run may have had other numbers
		if change(&t.RestartPolicy, was.RestartPolicy, will.RestartPolicy); endless(&now) {
			t.RestartPolicy = will.RestartPolicy
		}
	}
	next.TaskTemplate = t
	change(&next.UpdateConfig, before.UpdateConfig, after.UpdateConfig)
	change(&next.RollbackConfig, before.RollbackConfig, after.RollbackConfig)
	return next
}

func mergeContainer(c, was, will swarm.ContainerSpec) swarm.ContainerSpec {
	c.Image = will.Image
	c.Labels = overlay(c.Labels, was.Labels, will.Labels)
	c.Env = replaced(c.Env, was.Env, will.Env, func(s string) string {
		name, _, _ := strings.Cut(s, "=")
		return name
	})
	c.Mounts = replaced(c.Mounts, was.Mounts, will.Mounts, func(m mount.Mount) string { return m.Target })
	c.Secrets = replaced(c.Secrets, was.Secrets, will.Secrets, secretFile)
	change(&c.Command, was.Command, will.Command)
	change(&c.ReadOnly, was.ReadOnly, will.ReadOnly)
	change(&c.User, was.User, will.User)
	change(&c.CapabilityDrop, was.CapabilityDrop, will.CapabilityDrop)
	change(&c.Init, was.Init, will.Init)
	change(&c.Healthcheck, was.Healthcheck, will.Healthcheck)
	change(&c.Ulimits, was.Ulimits, will.Ulimits)
	change(&c.StopGracePeriod, was.StopGracePeriod, will.StopGracePeriod)
	return c
}

func mergeResources(now, was, will *swarm.ResourceRequirements) *swarm.ResourceRequirements {
	r := swarm.ResourceRequirements{Limits: &swarm.Limit{}, Reservations: &swarm.Resources{}}
	if now != nil && now.Limits != nil {
		*r.Limits = *now.Limits
	}
	if now != nil && now.Reservations != nil {
		*r.Reservations = *now.Reservations
	}
	change(&r.Limits.MemoryBytes, was.Limits.MemoryBytes, will.Limits.MemoryBytes)
	change(&r.Limits.NanoCPUs, was.Limits.NanoCPUs, will.Limits.NanoCPUs)
	change(&r.Limits.Pids, was.Limits.Pids, will.Limits.Pids)
	change(&r.Reservations.MemoryBytes, was.Reservations.MemoryBytes, will.Reservations.MemoryBytes)
	change(&r.Reservations.NanoCPUs, was.Reservations.NanoCPUs, will.Reservations.NanoCPUs)
	change(&r.Reservations.GenericResources, was.Reservations.GenericResources, will.Reservations.GenericResources)
	return &r
}

// change sets a value that the two definitions differ in.
func change[T any](now *T, was, will T) {
	if !reflect.DeepEqual(was, will) {
		*now = will
	}
}

// overlay is now with what was there replaced by what will be.
func overlay(now, was, will map[string]string) map[string]string {
	all := maps.Clone(now)
	if all == nil {
		all = map[string]string{}
	}
	for name := range was {
		delete(all, name)
	}
	maps.Copy(all, will)
	return all
}

// replaced is now without the items of was and will, and with those of will at the end. key is what makes two items the same.
func replaced[T any](now, was, will []T, key func(T) string) []T {
	known := map[string]bool{}
	for _, item := range slices.Concat(was, will) {
		known[key(item)] = true
	}
	all := slices.DeleteFunc(slices.Clone(now), func(item T) bool { return known[key(item)] })
	return append(all, will...)
}

// secretFile is where a secret is found in the container.
func secretFile(r *swarm.SecretReference) string {
	if r.File == nil {
		return r.SecretID
	}
	if path.IsAbs(r.File.Name) {
		return r.File.Name
	}
	return "/run/secrets/" + r.File.Name
}

// emptySpec is the spec of a definition that asks for nothing.
func emptySpec() swarm.ServiceSpec {
	return swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{}, Placement: &swarm.Placement{},
		Resources: &swarm.ResourceRequirements{Limits: &swarm.Limit{}, Reservations: &swarm.Resources{}},
	}}
}
