#!/bin/sh
# Builds bin/caddy (Caddy with this project's modules) and bin/fwatchdog, and
# the sample functions that need building; what has not changed is kept.
#
#   ./xcaddy.sh          build
#   ./xcaddy.sh run      build, then serve the Caddyfile
#
# GOOS and GOARCH (and GOARM) build for another system, into bin/GOOS_GOARCH/.
set -eu
cd "$(dirname "$0")"

caddy_version=v2.11.9
module=github.com/caddy-faas/faas

die() {
	printf 'xcaddy.sh: %s\n' "$*" >&2
	exit 1
}

step() { printf '==> %s\n' "$*" >&2; }

check_go() {
	command -v go >/dev/null 2>&1 || die 'Go is missing: install it from https://go.dev/dl/ and have it on PATH'
	need=$(sed -n 's/^go //p' go.mod)
	have=$(go env GOVERSION 2>&1) || die "Go is too old: go.mod wants $need or newer; $have"
	have=${have#go}
	oldest=$(printf '%s\n%s\n' "${have%%[!0-9.]*}" "$need" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)
	[ "$oldest" = "$need" ] || [ "${have%%[!0-9.]*}" = "$need" ] || die "Go is too old: this is $have, go.mod wants $need or newer"
}

# stale FILE PATH...: is FILE missing, or older than anything under the paths?
stale() {
	file=$1
	shift
	[ ! -f "$file" ] || [ -n "$(find "$@" -newer "$file" -type f ! -name '*_test.go' | head -n 1)" ]
}

# fetch gets all modules that xcaddy will need, checked by their sums. xcaddy
# itself then works offline: it would ask the module proxy whether the plugin's
# folder is a module of its own, which some proxies refuse to answer.
fetch() {
	step 'fetching modules'
	dir=$(mktemp -d)
	cp caddy-faas/cmd/caddy/main.go "$dir"
	top=$PWD
	(
		cd "$dir"
		go mod init caddy
		go mod edit -replace "$module=$top" -require "$module@v0.0.0"
		go get "github.com/caddyserver/caddy/v2@$caddy_version"
		go get .
	) >"$dir/log" 2>&1 || {
		cat "$dir/log" >&2
		die 'the modules could not be fetched'
	}
	rm -r "$dir"
}

build_caddy() {
	stale "$bin/caddy" caddy-faas go.mod go.sum xcaddy.sh || return 0
	step "building $bin/caddy: Caddy $caddy_version with $module/caddy-faas (minutes the first time)"
	# go tool would build xcaddy itself for GOOS and GOARCH.
	xcaddy=$(GOOS='' GOARCH='' go tool -n xcaddy)
	fetch
	step 'compiling'
	GOPROXY=off GONOSUMDB='*' "$xcaddy" build "$caddy_version" \
		--with "$module/caddy-faas" --replace "$module=$PWD" \
		--output "$PWD/$bin/caddy.new" >"$bin/build.log" 2>&1 || {
		cat "$bin/build.log" >&2
		die 'xcaddy failed'
	}
	mv "$bin/caddy.new" "$bin/caddy"
}

# build_go PACKAGE FILE: a static binary; go build itself knows what has changed.
build_go() { CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$2" "$1"; }

build() {
	mkdir -p "$bin"
	build_caddy
	build_go ./watchdog "$bin/fwatchdog"
	if [ "$bin" != bin ]; then
		step "built $bin/caddy and $bin/fwatchdog"
		return
	fi
	for main in functions/*/main.go; do
		dir=$(dirname "$main")
		build_go "./$dir" "$dir/handler"
	done
	step "built $bin/caddy, $bin/fwatchdog and the sample functions"
}

run() {
	[ "$bin" = bin ] || die "what is built for $GOOS/$GOARCH can't run here"
	data=${FAAS_DATA:-.faas}
	site=${FAAS_SITE:-http://localhost:8080}
	bin/caddy faas init --data "$data" --site "$site"
	step "functions: $site/function/NAME, named in ${FAAS_FUNCTIONS:-functions/stack.yml}"
	step "admin:     user ${FAAS_USER:-admin}, password in $data/admin.password"
	exec bin/caddy run --config Caddyfile
}

check_go
bin=bin
host=$(GOOS='' GOARCH='' go env GOOS)_$(GOOS='' GOARCH='' go env GOARCH)
target=$(go env GOOS)_$(go env GOARCH)
[ "$target" = "$host" ] || bin=bin/$target
GOOS=${target%_*} GOARCH=${target#*_}

case ${1:-build} in
build) build ;;
run) build && run ;;
*) die "unknown command $1: want build or run" ;;
esac
