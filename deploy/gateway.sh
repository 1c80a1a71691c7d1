# What up.sh gives the gateways.
# shellcheck shell=sh disable=SC2154 # $stack and $data are up.sh's

random() { od -An -v -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# make_secret NAME FILE. The name is of the content, since a secret can't be changed.
make_secret() {
	docker secret inspect "$1" >/dev/null 2>&1 || docker secret create --label "faas.stack=$stack" "$1" "$2" >/dev/null
}

# peer_secret makes what gateways know each other by, unless it is there.
peer_secret() {
	peer_secret=$(docker secret ls --format '{{.Name}}' | grep "^$stack-peer-secret-" | head -n 1) || true
	[ -z "$peer_secret" ] || return 0
	peer_secret=$stack-peer-secret-$(random 6)
	random 32 | docker secret create --label "faas.stack=$stack" "$peer_secret" - >/dev/null
}

# routes are the files with further routes of the site.
routes() {
	for file in $(from_top "${FAAS_ROUTES:-routes/*.caddyfile}"); do
		[ ! -s "$file" ] || printf '%s\n' "$file"
	done
}

# gateway_secrets are the secrets of the swarm that are labelled for the gateways.
gateway_secrets() { docker secret ls --filter label=faas.gateway --format '{{.Name}}'; }

# additions is a stack file that gives the gateway its routes, and its secrets: files in $data, as the Caddyfile
# finds them there on one machine, and secrets of the swarm that are labelled for it.
additions() {
	routes='' configs='' uses='' secrets='' number=0
	for file in $(routes); do
		number=$((number + 1))
		routes="$routes{source: route-$number, target: \"/etc/caddy/routes/${file##*/}\"}, "
		configs="${configs}route-$number: {file: \"$file\", name: $stack-route-$(content <"$file")}, "
	done
	for file in "$data"/*.secret; do
		[ -s "$file" ] || continue
		# With what few know, since a secret's name can be read by more people than its value.
		name=$stack-gateway-secret-$({ cat "$data/admin.hash" 2>/dev/null || true; cat "$file"; } | content)
		make_secret "$name" "$file"
		uses="$uses{source: $name, target: \"/run/faas/${file##*/}\", uid: \"65532\", mode: 0400}, "
		secrets="$secrets$name: {external: true}, "
	done
	for name in $(gateway_secrets); do
		uses="$uses{source: \"$name\", uid: \"65532\", mode: 0400}, "
		secrets="$secrets\"$name\": {external: true}, "
	done
	printf 'version: "3.8"\nservices: {gateway: {configs: [%s], secrets: [%s]}}\nconfigs: {%s}\nsecrets: {%s}\n' \
		"$routes" "$uses" "$configs" "$secrets"
}

# check_config has Caddy look at the configuration before a gateway that serves ends for it.
# Of the secrets that only the swarm knows it gets the like.
check_config() (
	dir=$(mktemp -d) container=
	trap 'rm -rf "$dir"; [ -z "$container" ] || docker rm -f "$container" >/dev/null' EXIT
	signals_exit
	mkdir -p "$dir/etc/caddy/routes" "$dir/run/faas" "$dir/run/secrets"
	cp "$FAAS_CADDYFILE" "$dir/etc/caddy/Caddyfile"
	routes | while read -r file; do cp "$file" "$dir/etc/caddy/routes"; done
	any=whsec_$(random 24)
	printf 'YWRtaW4=' >"$dir/run/faas/admin.hash"
	printf '%s' "$any" >"$dir/run/faas/peer.secret"
	cp "$data"/*.secret "$dir/run/faas" 2>/dev/null || true
	gateway_secrets | while read -r name; do printf '%s' "$any" >"$dir/run/secrets/$name"; done
	container=$(docker create --user 0 --network none -e FAAS_DATA=/run/faas -e "FAAS_SITE=${FAAS_SITE:-http://:80} http://:8080" -e FAAS_PROVIDER=swarm \
		--entrypoint /usr/bin/caddy "$(image_of caddy-faas/gateway)" validate --config /etc/caddy/Caddyfile)
	tar -C "$dir" -cf - . | docker cp - "$container:/"
	problem=$(docker start -a "$container" 2>&1) && return
	# By the names that the files have here.
	problem=$(printf '%s\n' "$problem" | sed "s|/run/faas/|${FAAS_DATA:-.faas}/|g; s|/etc/caddy/||g")
	die "nothing is deployed, since Caddy refuses the configuration: $(printf '%s\n' "$problem" | sed -n 's/.*"level":"error".*"msg":"\(.*\)"}$/\1/p' | grep . || printf '%s' "$problem")"
)
