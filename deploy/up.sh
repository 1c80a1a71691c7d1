#!/bin/sh
# Deploys gateway and sample functions to the swarm that this machine's Docker
# engine manages, and waits until they answer. Run again it changes what has
# changed, and nothing else. The gateway gets the Caddyfile, routes/*.caddyfile,
# the secrets .faas/*.secret and those of the swarm labelled faas.gateway.
#
#   deploy/up.sh [--monitoring] [--socket-proxy] [--no-build]
#
#   --monitoring    Prometheus, Alertmanager and Grafana, too
#   --socket-proxy  the gateway may read from the Docker engine, and change nothing
#   --no-build      takes the images that there are, or those of FAAS_REGISTRY
#
# Environment, besides that of build-images.sh:
#   FAAS_SITE           the gateway's public name, such as functions.example.com; default: HTTP by whatever name
#   FAAS_HTTP_PORT      default 80
#   FAAS_HTTPS_PORT     default 443; certificates want these two
#   FAAS_CADDYFILE      default: the Caddyfile of this repository
#   FAAS_ROUTES         files with further routes of the site, named *.caddyfile; default routes/*.caddyfile
#   FAAS_DATA           folder of the admin password and of secrets; default .faas
#   FAAS_STACK          name of the stack; default faas
#   FAAS_NETWORK        network of gateway and functions; default functions
#   FAAS_SUBNET         of that network, when it is made; default 10.210.0.0/16
#   FAAS_DOCKER_SOCKET  the engine's socket on the managers; default /var/run/docker.sock
#   FAAS_DOCKER_GID     the number of its group there; default: as on this machine
#   FAAS_PATIENCE       seconds to wait; default 180
#   FAAS_GRAFANA_PORT   with --monitoring; default 3000
#   FAAS_PROMETHEUS_IMAGE, FAAS_ALERTMANAGER_IMAGE, FAAS_GRAFANA_IMAGE   other images than Docker Hub's, with --monitoring
#   HUB_URL, CAPTAINS_URL, MQTT_URL   what hubstats, CaptainsIntent and ChangeColorIntent ask or tell
#
# Paths are relative to the folder of the repository.
set -eu
cd "$(dirname "$0")"
. ./lib.sh
. ./gateway.sh

check_engine() {
	check_docker
	state=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')
	case $state in
	'active true') ;;
	'active false') die 'this machine is a worker of its swarm: run this on a manager (docker node ls, there, names them)' ;;
	'inactive '*) die 'this machine is in no swarm yet: run docker swarm init, with --advertise-addr ADDRESS if it has several addresses' ;;
	*) die "this machine's part of its swarm is ${state% *}, not active: see docker info (docker swarm unlock, if it is locked)" ;;
	esac
	case ${DOCKER_HOST:-} in
	unix://*) socket=${FAAS_DOCKER_SOCKET:-${DOCKER_HOST#unix://}} ;;
	*) socket=${FAAS_DOCKER_SOCKET:-/var/run/docker.sock} ;;
	esac
	export FAAS_DOCKER_SOCKET="$socket"
	if [ -z "${FAAS_DOCKER_GID:-}" ]; then
		[ -S "$socket" ] || die "there is no $socket here: set FAAS_DOCKER_GID to what 'stat -c %g $socket' prints on a manager"
		# shellcheck disable=SC2012 # stat has other options elsewhere
		FAAS_DOCKER_GID=$(ls -nL "$socket" | awk '{print $4}')
	fi
	export FAAS_DOCKER_GID
}

# make_images leaves their names with tags in $images.
make_images() {
	images=
	if [ -n "$build" ]; then
		images=$(./build-images.sh)
		nodes=$(docker node ls -q | wc -l)
		[ -n "$registry" ] || [ "$nodes" -eq 1 ] || step "Other nodes need these images, too. Unless they have them set FAAS_REGISTRY, or meanwhile give them to each of the $((nodes - 1)):
    docker save \$(deploy/build-images.sh) | ssh NODE docker load"
	fi
}

# image_of NAME is the image with its tag; nothing if there is none.
image_of() {
	if [ -n "$build" ]; then
		printf '%s\n' "$images" | grep "^$registry$1:" | grep -v ':latest$' || true
	elif [ -n "$registry" ]; then
		printf '%s\n' "$registry$1:latest"
	else
		docker image ls --format '{{.Repository}}:{{.Tag}}' "$1" | grep -v ':latest$' | head -n 1
	fi
}

# check_ports asks the engine, before there is a gateway that has them.
check_ports() {
	for name in FAAS_HTTP_PORT FAAS_HTTPS_PORT FAAS_GRAFANA_PORT; do
		port=$(printenv "$name") || continue
		case $port in *[!0-9]* | ?????? | 0*) die "$name: $port: want a port, from 1 to 65535" ;; esac
	done
	! docker service inspect "${stack}_gateway" >/dev/null 2>&1 || return 0
	problem=$(docker run --rm -p "${FAAS_HTTP_PORT:-80}:80" -p "${FAAS_HTTPS_PORT:-443}:443" \
		--entrypoint /usr/bin/caddy "$(image_of caddy-faas/gateway)" version 2>&1 >/dev/null) || {
		taken "$problem"
		die "the gateway's image $(image_of caddy-faas/gateway) can't be run: $problem"
	}
}

# taken ENGINE'S WORDS dies if these say that a port is taken.
taken() {
	case $1 in
	*'address already in use'* | *'already allocated'*)
		die "port ${FAAS_HTTP_PORT:-80} or ${FAAS_HTTPS_PORT:-443} is taken: stop what listens there, or take others, such as FAAS_HTTP_PORT=8081 FAAS_HTTPS_PORT=8443. $1"
		;;
	esac
}

make_network() {
	network=${FAAS_NETWORK:-functions}
	if driver=$(docker network inspect -f '{{.Driver}}' "$network" 2>/dev/null); then
		[ "$driver" = overlay ] ||
			die "the network $network is no overlay: remove it (docker network rm $network), or take another name: FAAS_NETWORK=faas"
		return
	fi
	step "making the network $network"
	problem=$(docker network create -d overlay --attachable --subnet "${FAAS_SUBNET:-10.210.0.0/16}" --label "faas.stack=$stack" "$network" 2>&1) ||
		die "the network $network can't be made; if its addresses are taken, choose others, such as FAAS_SUBNET=10.211.0.0/16. $problem"
}

# password makes the admin password and its hash, unless they are there: as caddy faas init does.
password() {
	data=$(from_top "${FAAS_DATA:-.faas}")
	password_secret=
	if [ ! -s "$data/admin.hash" ] && [ ! -s "$data/admin.password" ]; then
		# Made on another machine or in another folder: it holds.
		hash_secret=$(docker secret ls --format '{{.Name}}' | grep "^$stack-admin-hash-" | head -n 1) || true
		password_secret=$(docker secret ls --format '{{.Name}}' | grep "^$stack-admin-password-" | head -n 1) || true
		if [ -n "$hash_secret" ]; then
			[ -z "$monitoring" ] || [ -n "$password_secret" ] ||
				die "Alertmanager and Grafana need the admin password: run this where it was made, or write it to ${FAAS_DATA:-.faas}/admin.password"
			return
		fi
	fi
	umask_before=$(umask)
	umask 066 # as caddy faas init has it
	mkdir -p "$data"
	umask 077
	# A password that was written over counts, too.
	if [ ! -s "$data/admin.hash" ] || [ -n "$(find "$data" -name admin.password -newer "$data/admin.hash")" ]; then
		if [ ! -s "$data/admin.password" ]; then
			step 'making the admin password'
			random 16 >"$data/admin.password"
		fi
		docker run --rm -i --network none --entrypoint /usr/bin/caddy "$(image_of caddy-faas/gateway)" hash-password \
			<"$data/admin.password" >"$data/admin.hash" || die 'the admin password could not be hashed'
	fi
	umask "$umask_before"
	hash_secret=$stack-admin-hash-$(content <"$data/admin.hash")
	make_secret "$hash_secret" "$data/admin.hash"
	if [ -n "$monitoring" ]; then
		[ -s "$data/admin.password" ] || die "Alertmanager and Grafana need the admin password itself: write it to ${FAAS_DATA:-.faas}/admin.password"
		password_secret=$stack-admin-password-$(content <"$data/admin.password")
		make_secret "$password_secret" "$data/admin.password"
	fi
}

# render FILE prints a stack file with the images that there are, and the numbers of
# replicas that there are: it names none, and 1 would be made of that.
# A service without an image is left out.
render() {
	{
		sed -n 's/^ *image: \([^$:]*\):latest$/\1/p' "$1" | sort -u | while read -r name; do
			printf 'image %s %s\n' "$name" "$(image_of "$name")"
		done
		docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}} {{.Mode}} {{.Replicas}}' |
			awk -v prefix="${stack}_" '$2 == "replicated" { sub(/.*\//, "", $3); print "replicas", substr($1, length(prefix) + 1), $3 }'
		cat "$1"
	} | awk '
		$1 == "image" { image[$2] = $3; next }
		$1 == "replicas" { replicas[$2] = $3; next }
		/^[a-z]/ { put(); block = ""; inside = $1 == "services:" }
		inside && /^  [A-Za-z]/ { put(); service = $1; sub(/:$/, "", service) }
		/^    image: .*:latest$/ { name = $2; sub(/:latest$/, "", name); missing = image[name] == ""; sub(/image: .*/, "image: " image[name]) }
		/^    deploy: \{<<: \*deploy, / && service in replicas { sub(/\*deploy, /, "*deploy, replicas: " replicas[service] ", ") }
		{ block = block $0 "\n" }
		END { put() }
		function put() { if (!missing) printf "%s", block; block = ""; missing = 0 }'
}

# version is of rendered files and the variables in them, but not of numbers of replicas.
version() {
	{
		sed 's/replicas: [0-9]*, //' "$@"
		cat "$@" | grep -o '[$]{[A-Z_]*' | tr -d '{$' | sort -u | grep -v FAAS_DEPLOYED | while read -r name; do
			printf '%s=%s\n' "$name" "$(printenv "$name")"
		done
	} | content
}

# lost names the services of rendered files that are not there.
lost() {
	there=$(docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}')
	awk '/^[a-z]/ { inside = $1 == "services:" } inside && /^  [A-Za-z]/ { sub(/:.*/, ""); print $1 }' "$@" | while read -r name; do
		printf '%s\n' "$there" | grep -qx "${stack}_$name" || printf '%s\n' "$name"
	done
}

# deploy SERVICE FILE... deploys stack files, unless they are what was deployed; SERVICE has a label of what was.
deploy() {
	service=$1
	shift
	files=
	for f in "$@"; do
		render "$f" >".up.$f" # here, since they name files of this folder
		files="$files .up.$f"
	done
	# shellcheck disable=SC2086 # words
	FAAS_DEPLOYED=$(version $files)
	export FAAS_DEPLOYED
	deployed=$(docker service inspect -f '{{index .Spec.Labels "faas.deployed"}}' "${stack}_$service" 2>/dev/null) || true
	# shellcheck disable=SC2086
	if [ "$deployed" = "$FAAS_DEPLOYED" ] && [ -z "$(lost $files)" ]; then
		case $(update_of "${stack}_$service") in
		rollback_started | rollback_paused | paused)
			step "starting $service again: the engine's last update of it hangs"
			docker service update --force --detach --quiet "${stack}_$service" >/dev/null
			;;
		esac
		return
	fi
	new="$new $service"
	[ "$service" != gateway ] || check_config
	step "deploying $*"
	resolve='--resolve-image never'
	[ -z "$registry" ] || resolve=--with-registry-auth
	detach=
	! docker stack deploy --help | grep -q -- --detach || detach=--detach=true
	# shellcheck disable=SC2046,SC2086
	docker stack deploy $resolve $detach $(printf ' -c %s' $files) "$stack" >&2
}

deploy_all() {
	new=
	FAAS_CADDYFILE=$(from_top "${FAAS_CADDYFILE:-Caddyfile}")
	[ -r "$FAAS_CADDYFILE" ] || die "FAAS_CADDYFILE: there is no file $FAAS_CADDYFILE, seen from $PWD"
	FAAS_CADDYFILE_VERSION=$(content <"$FAAS_CADDYFILE")
	FAAS_PROXY_VERSION=$(content <Caddyfile.socket-proxy)
	FAAS_MONITORING_VERSION=$(cat monitoring/* | content)
	FAAS_ADMIN_HASH=$hash_secret
	FAAS_ADMIN_PASSWORD=$password_secret
	FAAS_PEER_SECRET=$peer_secret
	FAAS_STACK=$stack
	export FAAS_CADDYFILE FAAS_CADDYFILE_VERSION FAAS_PROXY_VERSION FAAS_MONITORING_VERSION FAAS_ADMIN_HASH FAAS_ADMIN_PASSWORD FAAS_PEER_SECRET FAAS_STACK
	trap 'rm -f .up.* .additions.yml' EXIT
	signals_exit
	additions >.additions.yml
	# shellcheck disable=SC2086 # nothing or a file
	deploy gateway stack.yml $proxy .additions.yml
	first=nodeinfo
	! grep -q '^  echo:' .up.stack.yml || first='echo'
	[ -z "$monitoring" ] || deploy prometheus monitoring.yml
}

# reason SERVICE is why a service's newest tasks don't run, in the engine's words: rather what failed than what waits.
reason() {
	states=$(docker service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' "$1")
	errors=$(printf '%s\n' "$states" | sed -n 's/^[^"]*"/"/p')
	if printf '%s\n' "$errors" | grep -v 'host-mode port' | grep -m 1 .; then
		return
	elif printf '%s\n' "$states" | grep -q '^Complete'; then
		echo 'it has ended, by itself or since its health check failed (the gateway must answer GET / at port 8080)'
	else
		printf '%s\n' "$errors" | grep -m 1 .
	fi
}

# last_words SERVICE is the end of the log of its newest task that has failed, or else of all.
last_words() {
	task=$(docker service ps --no-trunc --format '{{.ID}} {{.CurrentState}}' "$1" | awk '$2 == "Failed" || $2 == "Complete" { print $1; exit }')
	docker service logs --raw --tail 5 "${task:-$1}" >&2 2>&1 || true
}

# update_of SERVICE is how its last update went; nothing if there was none.
update_of() { docker service inspect -f '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' "$1"; }

# settled is false while a service is updated. After a failed update the version before goes on. The end of the
# engine's rollback isn't waited for: for each task of the failed version that never began, since its port was in
# use, the engine waits a minute.
settled() {
	case $(update_of "$1") in
	updating) return 1 ;;
	rollback* | paused)
		case " $new " in *" ${1#"${stack}_"} "*) ;; *) return ;; esac # an earlier one's
		last_words "$1"
		die "the new version of $1 does not run, and the one before goes on: $(reason "$1")"
		;;
	esac
}

answers() {
	container=$(docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_gateway" | head -n 1)
	[ -n "$container" ] && docker exec "$container" /usr/bin/caddy faas healthcheck "http://127.0.0.1:8080/function/$first" >/dev/null 2>&1
}

# missing names the services that have fewer tasks than they should, or are updated.
missing() {
	docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}} {{.Replicas}}' |
		while read -r service replicas _; do
			[ "${replicas%%/*}" = "${replicas##*/}" ] && settled "$service" || printf '%s\n' "$service"
		done
}

wait_for() {
	step "waiting for the function $first"
	begun=$(date +%s)
	late=$((begun + ${FAAS_PATIENCE:-180}))
	until settled "${stack}_gateway" && answers; do
		why=$(reason "${stack}_gateway" || true)
		# At first it may be the gateway before this one that has the port.
		[ "$(date +%s)" -lt $((begun + 60)) ] || taken "$why"
		[ "$(date +%s)" -lt "$late" ] || {
			docker service ls --filter "label=com.docker.stack.namespace=$stack" >&2
			for service in "${stack}_gateway" "${stack}_$first"; do last_words "$service"; done
			die "the function $first does not answer. Gateway: ${why:-see its log above}. Function: $(reason "${stack}_$first" || echo 'no error')"
		}
		sleep 1
	done
	step 'waiting for all others'
	calm=0 # what ends as soon as it has begun is there at times, too
	while [ "$calm" -lt 4 ]; do
		left=$(missing) || exit 1
		calm=$((calm + 1))
		[ -z "$left" ] || calm=0
		[ "$(date +%s)" -lt "$late" ] || {
			for service in $left; do
				last_words "$service"
				step "$service does not run: $(reason "$service" || echo "docker service ps $service says more")"
			done
			die 'not everything runs; the rest does'
		}
		sleep 1
	done
}

# tidy removes what nothing uses any more.
tidy() {
	[ -n "$proxy" ] || docker service rm "${stack}_docker-proxy" >/dev/null 2>&1 || true
	for kind in secret config; do
		docker "$kind" ls --format '{{.Name}}' | grep -E "^$stack-[a-z-]+-[0-9a-f]{12}\$" | while read -r name; do
			docker "$kind" rm "$name" >/dev/null 2>&1 || true # in use
		done
	done
}

report() {
	address=$(docker info --format '{{.Swarm.NodeAddr}}')
	url=http://$address
	[ "${FAAS_HTTP_PORT:-80}" = 80 ] || url=$url:$FAAS_HTTP_PORT
	case ${FAAS_SITE:-} in
	'') ;;
	http://* | https://*) url=${FAAS_SITE%%[ ,]*} ;;
	*) url=https://${FAAS_SITE%%[ ,]*} ;;
	esac
	printf 'functions: %s/function/NAME; try: curl -d hello %s/function/%s\n' "$url" "$url" "$first"
	if [ -s "$data/admin.password" ]; then
		printf 'admin:     %s/ui/, user admin, password: cat %s\n' "$url" "${FAAS_DATA:-.faas}/admin.password"
	else
		printf 'admin:     %s/ui/, user admin, with the password that was made where this was run first\n' "$url"
	fi
	[ -z "$monitoring" ] || printf 'Grafana:   http://%s:%s, the same user and password\n' "$address" "${FAAS_GRAFANA_PORT:-3000}"
}

stack=${FAAS_STACK:-faas}
registry=$(registry)
monitoring='' proxy='' build=1
for argument in "$@"; do
	case $argument in
	--monitoring) monitoring=1 ;;
	--socket-proxy) proxy='socket-proxy.yml' ;;
	--no-build) build='' ;;
	-h | --help) usage ;;
	*) die "unknown option $argument; see --help" ;;
	esac
done
check_engine
make_images
[ -n "$(image_of caddy-faas/gateway)" ] || die 'there is no image caddy-faas/gateway on this node: run this without --no-build, or set FAAS_REGISTRY'
check_ports
make_network
password
peer_secret
deploy_all
wait_for
tidy
report
