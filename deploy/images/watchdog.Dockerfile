# Only to copy from: COPY --from=caddy-faas/watchdog /fwatchdog /usr/bin/fwatchdog
ARG BASE=scratch
FROM ${BASE}
ARG TARGETARCH
COPY ${TARGETARCH}/fwatchdog /fwatchdog
CMD ["/fwatchdog"]
