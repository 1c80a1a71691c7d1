// Package faas holds the nouns that every other package speaks in: [Function],
// [Replica], [Deployment], and the [Provider] that runs them. It decides
// nothing and imports the standard library only.
//
//   - function: a named deployment (image or command, environment, labels, limits, secrets).
//   - replica: one running copy of a function, with one address.
//   - provider: what runs replicas; an engine such as processes of this machine or Docker services.
package faas
