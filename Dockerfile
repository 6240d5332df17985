# Stage 1 builds as `make build` does; stage 2 holds the program, libtorch's CPU libraries and nothing else of it.
FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Before the sources, so that changing them fetches no libtorch.
COPY tools/libtorch.sh tools/
RUN tools/libtorch.sh
COPY tools/install.sh tools/
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    SEMBLANCE_TOOLS=/opt/tools tools/install.sh cargo-about
COPY . .
# The mounts keep what was built; the binary has to leave them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    CARGO_INCREMENTAL=0 cargo build --release --locked --bin semblance \
    && install -D target/release/semblance /out/bin/semblance \
    && strip --strip-debug /out/bin/semblance
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    SEMBLANCE_TOOLS=/opt/tools tools/notices.sh /out/THIRD_PARTY.md

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="semblance" \
      org.opencontainers.image.description="The open identity-matching server" \
      org.opencontainers.image.licenses="Apache-2.0"
# Volumes that are mounted here for the first time take their owner from these folders.
RUN install -d -o 65532 -g 65532 /data /models
COPY LICENSE /opt/semblance/
COPY --from=build /out/THIRD_PARTY.md /opt/semblance/
COPY --from=build /src/.libtorch/lib /opt/semblance/lib
# Finds the libraries by its rpath, $ORIGIN/../lib.
COPY --from=build /out/bin/semblance /opt/semblance/bin/semblance
ENV PATH=/opt/semblance/bin:$PATH \
    SEMBLANCE_DATA_DIR=/data \
    SEMBLANCE_HTTP_ADDR=0.0.0.0:8080 \
    SEMBLANCE_GRPC_ADDR=0.0.0.0:50051
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080 50051
ENTRYPOINT ["semblance"]
CMD ["serve"]
