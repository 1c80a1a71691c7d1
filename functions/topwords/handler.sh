#!/bin/sh
# The most frequent words of the body, with their counts: ten, or as many as ?n= says.
set -eu
n=10
case ${Http_Query:-} in
n=*[!0-9]* | n=) echo "topwords: n must be a number, not ${Http_Query#n=}" >&2; exit 1 ;;
n=*) n=${Http_Query#n=} ;;
esac
tr -cs '[:alnum:]' '\n' | tr '[:upper:]' '[:lower:]' | sed '/^$/d' | sort | uniq -c | sort -k1,1nr -k2 | sed "${n}q"
