# The collector with its page: one static program and nothing beside it. `cargo xtask image` builds the program, then this.
FROM scratch
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="orrery-collector" \
      org.opencontainers.image.description="Merges the reports of all agents into one live graph, and serves it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY orrery-collector /orrery-collector
USER 65532:65532
EXPOSE 7380 7381
ENTRYPOINT ["/orrery-collector"]
