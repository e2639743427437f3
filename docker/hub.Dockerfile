# The subscriber side, a static binary on an empty root file system. Build it from the repository's root:
#   docker build -f docker/hub.Dockerfile -t holdover-hub .
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools ca-certificates tzdata
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
ARG PROFILE=release
RUN PROFILE=$PROFILE docker/assemble.sh holdover-hub /out

FROM scratch
COPY --from=build /out/rootfs/ /
# A new volume takes over the owner of the folder that it is mounted on.
COPY --from=build --chown=65532:65532 /out/state/ /var/lib/holdover-hub/
# For `ingest`, and for `hosts`, `gaps` and `resend` beside it.
ENV HOLDOVER_HUB_DIR=/var/lib/holdover-hub
USER 65532:65532
# Records and ledger: the only place that is written. Run with a read-only root.
VOLUME /var/lib/holdover-hub
# Healthy is a hub that answers. That the broker is away does not count: a restart would mend nothing.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/holdover-hub", "hosts"]
ENTRYPOINT ["/holdover-hub"]
CMD ["ingest"]
