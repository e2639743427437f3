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
# It writes to standard output and nowhere else.
USER 65532:65532
ENTRYPOINT ["/holdover-hub"]
CMD ["tail", "--json"]
