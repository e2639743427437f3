# The agent alone, a static binary on an empty root file system. Build it from the repository's root:
#   docker build -f docker/agent.Dockerfile -t holdover .
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools ca-certificates tzdata
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
ARG PROFILE=release
RUN PROFILE=$PROFILE docker/assemble.sh holdover /out

FROM scratch
COPY --from=build /out/rootfs/ /
# A new volume takes over the owner of the folder that it is mounted on.
COPY --from=build --chown=65532:65532 /out/state/ /var/lib/holdover/
# The zone of cron schedules that name none: there is no /etc/localtime here.
ENV TZ=UTC
USER 65532:65532
# The outbox: the only place that is written. Run with a read-only root.
VOLUME /var/lib/holdover
# Healthy is an agent that works and answers. That the broker is away does not count: a restart would mend nothing.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/holdover", "status"]
ENTRYPOINT ["/holdover"]
CMD ["run"]
