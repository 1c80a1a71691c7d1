package swarm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// identity is which function a service is, however it was made; false if none.
// docker stack deploy puts labels on containers, unless they stand under deploy.
func identity(s *swarm.ServiceSpec) (faas.ID, bool) {
	c := s.TaskTemplate.ContainerSpec
	if c == nil {
		return faas.ID{}, false
	}
	get := func(name string) (string, bool) {
		value, ok := s.Labels[name]
		if !ok {
			value, ok = c.Labels[name]
		}
		return value, ok
	}
	id := faas.ID{Namespace: faas.DefaultNamespace}
	if namespace, _ := get(labelNamespace); namespace != "" {
		id.Namespace = namespace
	}
	name, ok := get(labelFunction)
	if !ok {
		seed, _ := get(labelSeed)
		ok, _ = strconv.ParseBool(seed)
		name = s.Name
	}
	if name == "" || name == "true" {
		name = s.Name
	}
	id.Name = name
	return id, ok
}

// functionOf is a service's definition: as it was deployed, or read off the
// spec. What somebody has changed with the engine's own tools since then shows.
func functionOf(s *swarm.ServiceSpec, id faas.ID) faas.Function {
	var fn faas.Function
	if text, ok := s.Labels[labelRecord]; ok && json.Unmarshal([]byte(text), &fn) == nil && fn.ID == id {
		if image := undigested(s.TaskTemplate.ContainerSpec.Image, fn.Image); image != fn.Image {
			fn.Image = image
		}
		fn.Labels = labelsNow(s.Labels, fn.Labels)
		return fn
	}
	fn = readSpec(s, id)
	fn.Labels = jobLabels(fn.Labels, s)
	return fn
}

// undigested is an image of a spec as it was deployed: the engine's tools add a tag and a digest.
func undigested(image, deployed string) string {
	if image == deployed || image == deployed+":latest" || strings.HasPrefix(image, deployed+"@") || strings.HasPrefix(image, deployed+":latest@") {
		return deployed
	}
	return image
}

// labelsNow are the labels that were deployed, as the service has them now, and those of ours that were added.
func labelsNow(now, deployed map[string]string) map[string]string {
	if deployed == nil && !slices.ContainsFunc(slices.Collect(maps.Keys(now)), public) {
		return nil
	}
	all := map[string]string{}
	for name, value := range now {
		if _, ok := deployed[name]; ok && !internal(name) || public(name) {
			all[name] = value
		}
	}
	for name, value := range deployed {
		if internal(name) {
			all[name] = value
		}
	}
	return all
}

// internal tells of labels that are not the function's author's.
func internal(name string) bool {
	return name == labelFunction || name == labelNamespace || name == labelRecord || name == labelHalfway || name == labelSeed || strings.HasPrefix(name, labelStack)
}

// public tells of labels that mean something to us, whoever sets them.
func public(name string) bool {
	return !internal(name) && (strings.HasPrefix(name, "com.openfaas.") || strings.HasPrefix(name, "faas."))
}

// annotationPrefix is what faas-swarm put before annotations to make them labels.
const annotationPrefix = "com.openfaas.annotations."

// readSpec makes a definition of a service that was not deployed through the API.
func readSpec(s *swarm.ServiceSpec, id faas.ID) faas.Function {
	c := s.TaskTemplate.ContainerSpec
	image, _, _ := strings.Cut(c.Image, "@")
	fn := faas.Function{ID: id, Image: image, ReadOnlyRootFilesystem: c.ReadOnly}
	for _, labels := range []map[string]string{c.Labels, s.Labels} {
		for name, value := range labels {
			if key, ok := strings.CutPrefix(name, annotationPrefix); ok {
				put(&fn.Annotations, key, value)
			} else if !internal(name) {
				put(&fn.Labels, name, value)
			}
		}
	}
	for _, variable := range c.Env {
		name, value, _ := strings.Cut(variable, "=")
		if name == "fprocess" {
			fn.Process = value
			continue
		}
		put(&fn.Env, name, value)
	}
	for _, secret := range c.Secrets {
		if secret.File != nil {
			fn.Secrets = append(fn.Secrets, strings.TrimPrefix(secret.File.Name, secretDir))
		}
	}
	if p := s.TaskTemplate.Placement; p != nil {
		fn.Constraints = slices.Clone(p.Constraints)
	}
	if r := s.TaskTemplate.Resources; r != nil {
		if r.Limits != nil {
			fn.Limits = amounts(r.Limits.MemoryBytes, r.Limits.NanoCPUs, nil)
		}
		if r.Reservations != nil {
			fn.Requests = amounts(r.Reservations.MemoryBytes, r.Reservations.NanoCPUs, r.Reservations.GenericResources)
		}
	}
	return fn
}

// amounts are resources in Kubernetes notation; nil for none.
func amounts(memory, cpu int64, generic []swarm.GenericResource) faas.Resources {
	var all map[string]string
	if memory > 0 {
		text := fmt.Sprint(memory)
		if memory%(1<<20) == 0 {
			text = fmt.Sprintf("%dMi", memory>>20)
		}
		put(&all, faas.Memory, text)
	}
	if cpu > 0 {
		text := fmt.Sprintf("%dn", cpu)
		if cpu%1e6 == 0 {
			text = fmt.Sprintf("%dm", cpu/1e6)
		}
		put(&all, faas.CPU, text)
	}
	for _, r := range generic {
		if d := r.DiscreteResourceSpec; d != nil {
			put(&all, d.Kind, fmt.Sprint(d.Value))
		}
	}
	return all
}

func put(m *map[string]string, name, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[name] = value
}

// port is where a function listens.
func port(c *swarm.ContainerSpec) string {
	for _, variable := range c.Env {
		if text, ok := strings.CutPrefix(variable, "port="); ok {
			if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
				return strconv.FormatUint(n, 10)
			}
		}
	}
	return strconv.Itoa(defaultPort)
}
