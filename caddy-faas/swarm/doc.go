// Package swarm is the provider that runs functions as services of a Docker
// swarm. The swarm keeps everything; a gateway that dies has nothing to lose,
// and several may work side by side.
//
//   - A definition becomes a service (spec.go), which carries it in a label, and an update is merged into
//     whatever the service has become (merge.go). Any service with the function's label is read the same way (function.go).
//   - A [table] holds what is known of the services while somebody watches. Events say what to read again; services
//     on their way are polled, since nobody tells when a replica is ready; everything is read now and then (watch.go).
//   - A replica is ready when its task runs and should, has an address on the functions' network, is on no lost node,
//     and has once been found to serve (deployment.go, probe.go).
//   - The engine's client stands behind the interface cluster, and nowhere but in docker.go; elsewhere Docker's types
//     are only those of services and tasks, as the engine's API has them.
//
// What this rests on, as observed of engine 20.10: a task's address is known long before anything listens there, and
// after its node has died the task goes on "running" though it should be "shutdown"; so both states count. Between a task's
// desired state changing and its SIGTERM there are about three seconds, because Swarm first takes its name off the network:
// a poll every 50 ms stops the requests to it in time. A second update of what somebody else has changed
// fails with "update out of sequence". There are no events of tasks. A rollback is to the spec before the last one, even
// if the last one only changed the number of replicas (scale.go).
package swarm
