# Caddy with the modules of this project, without a Caddyfile: deploy/stack.yml
# brings that. build-images.sh makes the folder that this is built from.
ARG BASE=scratch
FROM ${BASE}
ARG TARGETARCH
COPY ${TARGETARCH}/caddy /usr/bin/caddy
# Certificates; a volume made here belongs to the user below.
COPY --chown=65532:65532 empty /data
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/data
USER 65532:65532
WORKDIR /data
EXPOSE 80 443 443/udp 8080
CMD ["/usr/bin/caddy", "run", "--config", "/etc/caddy/Caddyfile"]
