# What the scripts of this folder share.
# shellcheck shell=sh

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

step() { printf '==> %s\n' "$*" >&2; }

# usage prints the comment at the script's top, and ends.
usage() {
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${0##*/}"
	exit
}

# signals_exit makes what is trapped for EXIT be done when a signal ends the script, or the subshell, too: some shells forget it.
signals_exit() { trap 'exit 130' HUP INT TERM; }

check_docker() {
	command -v docker >/dev/null 2>&1 || die 'docker is missing: install it from https://docs.docker.com/engine/install/'
	problem=$(docker version 2>&1 >/dev/null) ||
		die "the Docker engine does not answer: start it, or run this as a user who may use it (root, or group docker). $problem"
}

# content is a name for what is on the standard input.
content() { if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -c 1-12; }

# from_top FILE: paths are relative to the repository.
from_top() { case $1 in /*) printf '%s' "$1" ;; *) printf '../%s' "$1" ;; esac; }

# registry is what the names of images begin with.
registry() {
	r=${FAAS_REGISTRY:-}
	printf '%s' "${r%/}${r:+/}"
}
