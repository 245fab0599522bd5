# The agent: one static program and nothing beside it. `cargo xtask image` builds the program, then this.
FROM scratch
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="orrery-agent" \
      org.opencontainers.image.description="Watches what the pods of one node say to each other" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY orrery-agent /orrery-agent
# Root without the powers of root: which ones it has the manifest says.
USER 0:0
ENTRYPOINT ["/orrery-agent"]
