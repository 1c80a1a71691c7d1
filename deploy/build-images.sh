#!/bin/sh
# Builds the images of the stack FROM scratch: gateway, watchdog and the sample
# functions. Prints their names, each with a tag that is of its content and as
# latest; what is there already is not built again. Works with and without buildx.
#
#   deploy/build-images.sh
#   docker save $(deploy/build-images.sh) | ssh NODE docker load
#
# Environment:
#   FAAS_REGISTRY      push to it, such as registry.example.com/team
#   FAAS_PLATFORMS     default: the engine's own, such as linux/amd64; several, parted by commas, need a registry
#   FAAS_ALPINE_IMAGE  what functions/alpine is built on; default alpine:3
#   FAAS_PYTHON_IMAGE  base of functions in Python; default python:3-alpine
#   FAAS_NODE_IMAGE    base of functions in Node.js; default node:lts-alpine
#
# A sample function whose base can't be had is left out, and said so.
set -eu
cd "$(dirname "$0")"
. ./lib.sh

check() {
	check_docker
	own=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}')
	platforms=$(printf '%s' "${FAAS_PLATFORMS:-$own}" | tr ',' ' ')
	for p in $platforms; do
		case $p in
		linux/amd64 | linux/arm64 | linux/arm | linux/arm/v7) ;;
		*) die "FAAS_PLATFORMS: $p: want linux/amd64, linux/arm64 or linux/arm/v7" ;;
		esac
	done
	case $platforms in
	*' '*) [ -n "$registry" ] || die 'several FAAS_PLATFORMS need FAAS_REGISTRY: an engine keeps images of one platform' ;;
	esac
	buildx='' engine='docker build'
	if docker buildx version >/dev/null 2>&1; then
		buildx='docker buildx build --provenance=false'
		# The engine's own builder: another one would not see the images that are here.
		engine="$buildx --builder $(docker context show) --load"
	else
		export DOCKER_BUILDKIT=0
	fi
}

arch() {
	a=${1#linux/}
	printf '%s' "${a%%/*}"
}

# put FILE DESTINATION: hard links where that is possible, since binaries are large.
put() {
	mkdir -p "$(dirname "$2")"
	ln "$1" "$2" 2>/dev/null || cp "$1" "$2"
}

# binaries builds Caddy and the watchdog for each platform, into $work/bin/ARCH.
binaries() {
	command -v go >/dev/null 2>&1 || die 'Go is missing: install it from https://go.dev/dl/'
	host=$(GOOS='' GOARCH='' go env GOOS)/$(GOOS='' GOARCH='' go env GOARCH)
	for p in $platforms; do
		a=$(arch "$p")
		bin=bin
		[ "linux/$a" = "$host" ] || bin=bin/linux_$a
		GOOS=linux GOARCH=$a ./xcaddy.sh build >&2
		put "$bin/caddy" "$work/bin/$a/caddy"
		put "$bin/fwatchdog" "$work/bin/$a/fwatchdog"
	done
}

# context NAME BINARY... makes a folder of these binaries for each platform.
context() {
	dir=$work/context/$1
	mkdir -p "$dir/empty"
	shift
	for p in $platforms; do
		for binary in "$@"; do
			put "$work/bin/$(arch "$p")/$binary" "$dir/$(arch "$p")/$binary"
		done
	done
}

# base IMAGE VARIABLE FUNCTIONS: is the image there, or can it be pulled?
base() {
	docker image inspect "$1" >/dev/null 2>&1 && return
	step "pulling $1"
	problem=$(docker pull -q "$1" 2>&1) && return
	step "LEFT OUT: $3: the base image $1 can't be pulled; name another one in $2. $problem"
	return 1
}

# build NAME DOCKERFILE FOLDER [ARG=IMAGE...]: builds an image, and prints its name. IMAGE is one of ours, or a base.
build() {
	name=$1 file=$2 folder=$3
	shift 3
	bases=$(for b in "$@"; do docker image inspect -f '{{.Id}}' "${b#*=}" 2>/dev/null || printf '%s\n' "$b"; done)
	tag=$({
		cat "$file"
		printf '%s %s\n' "$platforms" "$bases"
		(cd "$folder" && find . -type f -print | LC_ALL=C sort | while read -r f; do printf '%s ' "$f" && content <"$f"; done)
	} | content)
	image=$registry$name
	if [ -z "$registry" ] && docker image inspect "$image:$tag" >/dev/null 2>&1; then
		docker tag "$image:$tag" "$image:latest"
	else
		step "building $image:$tag"
		make_image "$@" >"$work/log" 2>&1 || {
			cat "$work/log" >&2
			die "building $image failed${registry:+, or pushing it: can this machine reach ${registry%/}, and has it the right to push (docker login)?}"
		}
	fi
	built=$image:$tag
	printf '%s\n' "$built" "$image:latest"
}

# make_image [ARG=IMAGE...] says of every step whether it failed: the shell does not by itself in what is tested.
make_image() {
	arguments=
	for b in "$@"; do arguments="$arguments --build-arg $b"; done
	if [ -n "$buildx" ] && [ -n "$registry" ]; then
		# shellcheck disable=SC2086 # words
		$buildx --platform "$(printf '%s' "$platforms" | tr ' ' ',')" --push $arguments \
			-t "$image:$tag" -t "$image:latest" -f "$file" "$folder"
		return
	fi
	parts=
	for p in $platforms; do
		part=$image:$tag
		case $platforms in *' '*) part=$part-$(arch "$p") ;; esac
		scratch=
		if [ -z "$buildx" ] && [ "$p" != "$own" ] && grep -q '^ARG BASE=scratch' "$file"; then
			empty_image "$p" || return
			scratch="--build-arg BASE=faas-scratch:$(arch "$p")"
		fi
		# shellcheck disable=SC2046,SC2086 # words
		$engine --platform "$p" --build-arg "TARGETARCH=$(arch "$p")" $scratch $(of_platform "$p" $arguments) \
			-t "$part" -f "$file" "$folder" || return
		[ -z "$registry" ] || docker push -q "$part" || return
		parts="$parts $part"
	done
	case $platforms in
	*' '*)
		for t in "$tag" latest; do
			# shellcheck disable=SC2086
			docker manifest create --amend $insecure "$image:$t" $parts && docker manifest push --purge $insecure "$image:$t" || return
		done
		;;
	*)
		docker tag "$image:$tag" "$image:latest" || return
		[ -z "$registry" ] || docker push -q "$image:latest"
		;;
	esac
}

# empty_image PLATFORM makes what scratch is on another platform: without buildx scratch itself is of the engine's.
empty_image() {
	dir=$work/scratch
	mkdir -p "$dir"
	printf '{"os": "linux", "architecture": "%s", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}' "$(arch "$1")" >"$dir/config.json"
	printf '[{"Config": "config.json", "RepoTags": ["faas-scratch:%s"], "Layers": []}]' "$(arch "$1")" >"$dir/manifest.json"
	tar -C "$dir" -cf - config.json manifest.json | docker load
}

# of_platform PLATFORM ARGUMENT...: names the parts that images of ours have on several platforms, when there is no buildx.
of_platform() {
	p=$1
	shift
	for a in "$@"; do
		case $platforms in
		*' '*) case $a in *="$registry"*) a=$a-$(arch "$p") ;; esac ;;
		esac
		printf '%s ' "$a"
	done
}

ours() {
	context gateway caddy
	build caddy-faas/gateway deploy/images/gateway.Dockerfile "$work/context/gateway"
	context watchdog fwatchdog
	build caddy-faas/watchdog deploy/images/watchdog.Dockerfile "$work/context/watchdog"
	watchdog=$built
}

in_go() {
	for main in functions/*/main.go; do
		name=$(basename "$(dirname "$main")")
		context "$name" fwatchdog
		for p in $platforms; do
			CGO_ENABLED=0 GOOS=linux GOARCH=$(arch "$p") go build -C functions -trimpath -ldflags '-s -w' \
				-o "$work/context/$name/$(arch "$p")/handler" "./$name"
		done
		build "functions/$(printf '%s' "$name" | tr '[:upper:]' '[:lower:]')" deploy/images/go.Dockerfile "$work/context/$name"
	done
}

in_shell() {
	alpine=${FAAS_ALPINE_IMAGE:-alpine:3}
	base "$alpine" FAAS_ALPINE_IMAGE 'echo and the other commands, topwords' || return 0
	context alpine fwatchdog
	build functions/alpine deploy/images/alpine.Dockerfile "$work/context/alpine" "BASE=$alpine"
	build functions/topwords functions/topwords/Dockerfile functions/topwords "BASE=$built"
}

# interpreted NAME BASE VARIABLE
interpreted() {
	base "$2" "$3" "$1" || return 0
	build "functions/$1" "functions/$1/Dockerfile" "functions/$1" "WATCHDOG=$watchdog" "BASE=$2"
}

case ${1:-} in
'') ;;
-h | --help) usage ;;
*) die "unknown argument $1: there are none; see --help" ;;
esac
registry=$(registry)
cd ..
insecure=
case $registry in localhost:* | 127.*) insecure=--insecure ;; esac
check
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
signals_exit
binaries
ours
in_go
in_shell
interpreted csv2json "${FAAS_PYTHON_IMAGE:-python:3-alpine}" FAAS_PYTHON_IMAGE
interpreted urlparts "${FAAS_NODE_IMAGE:-node:lts-alpine}" FAAS_NODE_IMAGE
