# A sample function in Go: watchdog and handler, nothing else.
ARG BASE=scratch
FROM ${BASE}
ARG TARGETARCH
COPY ${TARGETARCH}/fwatchdog /usr/bin/fwatchdog
COPY --chown=65532:65532 empty /tmp
COPY --chown=65532:65532 empty /home/app
COPY ${TARGETARCH}/handler /home/app/handler
WORKDIR /home/app
ENV fprocess=./handler
USER 65532:65532
EXPOSE 8080
CMD ["/usr/bin/fwatchdog"]
