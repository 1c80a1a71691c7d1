# functions/alpine: a shell and the usual tools as functions. The variable
# fprocess is the command; a function of your own may be built FROM this.
ARG BASE=alpine:3
FROM ${BASE}
ARG TARGETARCH
COPY ${TARGETARCH}/fwatchdog /usr/bin/fwatchdog
COPY --chown=65532:65532 empty /home/app
WORKDIR /home/app
ENV fprocess=cat
USER 65532:65532
EXPOSE 8080
CMD ["fwatchdog"]
