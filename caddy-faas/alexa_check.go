package caddyfaas

import (
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

var errUnverified = errors.New("alexa: no faas_verify alexa comes before it, so that anybody could call the functions; put one there, or write insecure_skip_verify on a route that only trusted clients reach")

// requireVerified refuses a configuration in which Alexa's requests reach
// functions without having been verified. What can't be told from the
// configuration, such as which of two matchers fits, each request is asked again.
func requireVerified(ctx caddy.Context) error {
	v, err := ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	app, ok := v.(*caddyhttp.App)
	if !ok {
		return nil
	}
	for _, server := range app.Servers {
		if err := judgeRoutes(server.Routes, false); err != nil {
			return err
		}
	}
	return nil
}

// judgeRoutes goes through routes in their order; verified tells what came before them.
func judgeRoutes(routes caddyhttp.RouteList, verified bool) error {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *Verify:
				verified = verified || h.scheme == alexaScheme
			case *caddyhttp.Subroute:
				if err := judgeRoutes(h.Routes, verified); err != nil {
					return err
				}
			case *Handler:
				if h.Alexa != nil && !h.Alexa.InsecureSkipVerify && !verified {
					return errUnverified
				}
			}
		}
	}
	return nil
}
