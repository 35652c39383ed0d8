# syntax=docker/dockerfile:1

# A static binary: no cgo; time zones are embedded by the program itself.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/stagewire ./cmd/stagewire \
    && mkdir -p /out/data /out/etc/stagewire

# Nothing but the binary and the certificates it checks vendors with.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/stagewire /usr/local/bin/stagewire
# Owned by the user the hub runs as: a named volume mounted here takes this ownership over.
COPY --from=build --chown=65532:65532 /out/data /var/lib/stagewire
USER 65532:65532
WORKDIR /etc/stagewire
VOLUME /var/lib/stagewire
EXPOSE 8080
# stagewire.yaml is mounted at /etc/stagewire, with `listen: 0.0.0.0:8080` and `data_dir: /var/lib/stagewire`.
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 CMD ["/usr/local/bin/stagewire", "healthz", "--config", "/etc/stagewire/stagewire.yaml"]
# The hub finishes what is under way before it ends.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/stagewire"]
CMD ["serve", "--config", "/etc/stagewire/stagewire.yaml"]
