#!/bin/sh
# Removes what up.sh has deployed. Functions that were deployed otherwise go on,
# and certificates and the admin password stay. Run again it changes nothing.
#
#   deploy/down.sh [--all]
#
#   --all  removes these functions, their network, the certificates of this node
#          and the measurements of Prometheus, too; the password is in FAAS_DATA
#
# Environment: FAAS_STACK (default faas) and FAAS_NETWORK (default functions), as for up.sh.
set -eu
cd "$(dirname "$0")"
. ./lib.sh

gone() {
	late=$(($(date +%s) + 120))
	until [ -z "$("$@")" ]; do
		[ "$(date +%s)" -lt "$late" ] || die "still there after two minutes: $("$@" | tr '\n' ' ')"
		sleep 1
	done
}

containers() { docker ps -aq --filter "label=com.docker.stack.namespace=$stack"; }

# attached are containers that keep the network; what has ended doesn't, and of jobs that are removed the engine keeps that.
attached() { docker ps -q --filter "network=$network"; }

# others are the services on the functions' network that are not of the stack.
others() {
	id=$(docker network inspect -f '{{.Id}}' "$network" 2>/dev/null) || return 0
	docker service ls -q | while read -r service; do
		docker service inspect -f '{{.Spec.Name}}{{range .Spec.TaskTemplate.Networks}} {{.Target}}{{end}}' "$service" 2>/dev/null
	done | awk -v id="$id" '{ for (i = 2; i <= NF; i++) if ($i == id) print $1 }'
}

remove_named() {
	docker "$1" ls --format '{{.Name}}' | grep -E "^$stack-[a-z-]+-[0-9a-f]{12}\$" | while read -r name; do
		docker "$1" rm "$name" >/dev/null
	done
}

stack=${FAAS_STACK:-faas}
network=${FAAS_NETWORK:-functions}
all=
for argument in "$@"; do
	case $argument in
	--all) all=1 ;;
	-h | --help) usage ;;
	*) die "unknown option $argument; see --help" ;;
	esac
done
check_docker
[ "$(docker info --format '{{.Swarm.ControlAvailable}}')" = true ] || die 'this machine manages no swarm: run this on a manager'
if docker stack ls --format '{{.Name}}' | grep -qx "$stack"; then
	step "removing the stack $stack"
	docker stack rm "$stack" >&2
fi
gone containers
remove_named secret
remove_named config
left=$(others | tr '\n' ' ')
if [ -n "$all" ] && [ -n "$left" ]; then
	step "removing $left"
	# shellcheck disable=SC2086 # words
	docker service rm $left >/dev/null
	left=
fi
if [ -n "$left" ]; then
	step "kept, since they were not deployed by up.sh: $left"
elif docker network inspect "$network" >/dev/null 2>&1; then
	gone attached
	late=$(($(date +%s) + 60))
	while docker network inspect "$network" >/dev/null 2>&1; do
		problem=$(docker network rm "$network" 2>&1) || true # while other nodes still leave it
		[ "$(date +%s)" -lt "$late" ] || die "the network $network can't be removed: $problem"
		sleep 1
	done
fi
if [ -n "$all" ]; then
	docker volume ls -q --filter "label=com.docker.stack.namespace=$stack" | while read -r volume; do docker volume rm "$volume" >/dev/null; done
fi
