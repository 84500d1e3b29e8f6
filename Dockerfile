# Build: docker build -t ticketgate .
# Run:   docker run -p 25:2525 -v ticketgate:/var/lib/ticketgate -v ./ticketgate.toml:/etc/ticketgate/ticketgate.toml:ro ticketgate
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked \
    && mkdir -p /root-of-image/var/lib/ticketgate /root-of-image/run/ticketgate

# No shell and no package manager: the daemon, its libraries and the root certificates.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/ticketgate /usr/bin/ticketgate
COPY --from=build --chown=nonroot:nonroot /root-of-image/var/lib/ticketgate /var/lib/ticketgate
COPY --from=build --chown=nonroot:nonroot /root-of-image/run/ticketgate /run/ticketgate
COPY config/container.toml /etc/ticketgate/ticketgate.toml
# The number of nonroot: Kubernetes can only tell from a number that this is not root.
USER 65532
WORKDIR /var/lib/ticketgate
ENV TICKETGATE_SOCKET=/run/ticketgate/admin.sock
VOLUME /var/lib/ticketgate
EXPOSE 2525 9725
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/bin/ticketgate", "status"]
ENTRYPOINT ["/usr/bin/ticketgate"]
CMD ["run", "--config", "/etc/ticketgate/ticketgate.toml"]
