// Package caddyfaas makes Caddy a gateway for functions: it finds out which
// function a request means, leases a ready replica of it, and leaves the rest
// to standard Caddy middleware.
//
// What a request meets, in order:
//
//   - Caddy's own handlers: TLS, authentication, request_body, logging.
//   - [Verify] (directive faas_verify), on the routes of webhooks and Alexa skills:
//     is it from whom it should be? By a [Verifier], over package verify.
//   - [Handler] (directive faas): names the function, asks what its labels
//     demand of a caller, counts the invocation, leases a replica from
//     [scale.Target], waiting for one if none is ready.
//   - Caddy's reverse_proxy, which asks [Upstreams] (dynamic faas) where that replica is.
//   - The watchdog before the function's process.
//
// Beside that, [API] manages the functions and [UI] shows them in a browser.
//
// [App] (global option faas) owns what outlives a reload: the provider that
// runs the replicas, and the registry of what runs, which also sees to it that
// there are as many replicas as the load needs ([Scaling]).
package caddyfaas
