// Package caddyfaas makes Caddy a gateway for functions: it finds out which
// function a request means, leases a ready replica of it, and leaves the rest
// to standard Caddy middleware.
//
// What a request meets, in order:
//
//   - Caddy's own handlers: TLS, authentication, request_body, logging.
//   - [Handler] (directive faas): names the function, counts the invocation, leases a
//     replica from [scale.Target], waiting for one if none is ready.
//   - Caddy's reverse_proxy, which asks [Upstreams] (dynamic faas) where that replica is.
//   - The watchdog before the function's process.
//
// [App] (global option faas) owns what outlives a reload: the provider that
// runs the replicas, and the registry of what runs.
package caddyfaas
