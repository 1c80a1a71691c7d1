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

# fetch gets all modules that xcaddy will need, checked by their sums: those of
# Caddy alone, with which xcaddy begins, then those of both. xcaddy itself then
# works offline: it would ask the module proxy whether the plugin's folder is a
# module of its own, which some proxies refuse to answer.
fetch() {
	step 'fetching modules'
	dir=$(mktemp -d)
	cp caddy-faas/cmd/caddy/main.go "$dir"
	top=$PWD
	(
		cd "$dir"
		go mod init caddy
		go get "github.com/caddyserver/caddy/v2@$caddy_version"
		go mod edit -replace "$module=$top" -require "$module@v0.0.0"
		go get .
	) >"$dir/log" 2>&1 || {
		cat "$dir/log" >&2
		die 'the modules could not be fetched'
	}
	rm -r "$dir"
}

# version prints linker flags by which the binary knows its release and commit, where there is a git repository.
version() {
	commit=$(git rev-parse HEAD 2>/dev/null) || return 0
	git diff --quiet HEAD -- || commit=$commit-dirty
	release=$(git describe --tags 2>/dev/null) || release=devel
	printf ' -X %s/caddy-faas.commit=%s -X %s/caddy-faas.release=%s' "$module" "$commit" "$module" "$release"
}

build_caddy() {
	stale "$bin/caddy" caddy-faas go.mod go.sum xcaddy.sh || return 0
	step "building $bin/caddy: Caddy $caddy_version with $module/caddy-faas (minutes the first time)"
	# go tool would build xcaddy itself for GOOS and GOARCH.
	xcaddy=$(GOOS='' GOARCH='' go tool -n xcaddy)
	fetch
	step 'compiling'
	# As xcaddy's own flags, and the version.
	flags="-trimpath -tags nobadger,nomysql,nopgx -ldflags '-s -w$(version)'"
	XCADDY_GO_BUILD_FLAGS=$flags GOPROXY=off GONOSUMDB='*' "$xcaddy" build "$caddy_version" \
		--with "$module/caddy-faas" --replace "$module=$PWD" \
		--output "$PWD/$bin/caddy.new" >"$bin/build.log" 2>&1 || {
		cat "$bin/build.log" >&2
		die 'xcaddy failed'
	}
	mv "$bin/caddy.new" "$bin/caddy"
}

# build_go MODULE PACKAGE FILE: a static binary, from the module's folder; go build itself knows what has changed.
build_go() { CGO_ENABLED=0 go build -C "$1" -trimpath -ldflags '-s -w' -o "$3" "$2"; }

build() {
	mkdir -p "$bin"
	build_caddy
	build_go . ./watchdog "$bin/fwatchdog"
	if [ "$bin" != bin ]; then
		step "built $bin/caddy and $bin/fwatchdog"
		return
	fi
	for main in functions/*/main.go; do
		name=$(basename "$(dirname "$main")")
		build_go functions "./$name" "$name/handler"
	done
	step "built $bin/caddy, $bin/fwatchdog and the sample functions"
}

run() {
	[ "$bin" = bin ] || die "what is built for $GOOS/$GOARCH can't run here"
	data=${FAAS_DATA:-.faas}
	site=${FAAS_SITE:-http://localhost:8080}
	bin/caddy faas init --data "$data" --site "$site"
	site=${site%%[ ,]*}
	step "functions: $site/function/NAME, named in ${FAAS_FUNCTIONS:-functions/stack.yml}"
	step "admin:     user ${FAAS_USER:-admin}, password in $data/admin.password"
	step "page:      $site/ui/, with that user and password"
	case $site in
	*://localhost* | *://127.*) step "callers:   programs of this machine; FAAS_SITE=http://:8080 lets others call, too, a public name does with HTTPS" ;;
	esac
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
