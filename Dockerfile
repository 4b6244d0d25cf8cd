# syntax=docker/dockerfile:1
# Burgess on the CPU: the binary, its C library, and a user without rights.
#
#   docker build -t burgess .
#   docker run --rm -v "$HOME/.cache/burgess:/cache" -v "$PWD:/work" --user "$(id -u):$(id -g)" burgess rank nano
#   docker run --rm -p 127.0.0.1:8080:8080 -e BURGESS_TOKEN -v burgess-cache:/cache -v "$PWD/runs:/work/runs:ro" \
#     burgess serve --model runs/nano/nano-siglip/seed-0/model --host 0.0.0.0
#
# /cache holds features, rendered images and downloaded weights, /work the studies and their results. A directory of the
# host that is mounted there must be writable for user 65532, or the container runs as its owner (--user); make it
# first, because Docker makes a missing one as root. There is no HEALTHCHECK, because most commands are no server: `burgess
# serve` answers at /healthz.

FROM rust:1.95.0-slim-bookworm AS build
# The toolchain of the image is the one that rust-toolchain.toml names; nothing is installed beside it.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY . .
# `strip` and the absence of debug information are part of the release profile.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked -p burgess \
    && install -D target/release/burgess /image/usr/local/bin/burgess \
    && install -D -m 644 -t /image/usr/share/doc/burgess LICENSE-APACHE LICENSE-MIT \
    && cp -r probe/data/world/assets/LICENSES /image/usr/share/doc/burgess/ \
    && install -d -m 755 /image/cache /image/work

# glibc, libgcc and certificates, no shell; the user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/usr /usr
COPY --from=build --chown=65532:65532 /image/cache /cache
COPY --from=build --chown=65532:65532 /image/work /work
ENV BURGESS_CACHE=/cache HF_HOME=/cache/huggingface HOME=/work
WORKDIR /work
VOLUME ["/cache", "/work"]
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/burgess"]
CMD ["--help"]
