# syntax=docker/dockerfile:1
# The gateway as a container image. `docker build -t sallyport .`
#
# Configuration: /etc/sallyport/gateway.yaml. State: /var/lib/sallyport (a volume). Logs: stdout and stderr.
# Runs as uid 10001, with a read-only root file system. Nothing is downloaded at start: the Core Rule Set is installed
# while the image is built and lies in /usr/share/sallyport/crs, to which the state folder points.

FROM rust:1-bookworm AS native
WORKDIR /build/native
COPY native/ ./
RUN cargo build --release --locked -p sallyport-binding \
  && cp target/release/libsallyport_binding.so /build/sallyport.node

FROM node:22-bookworm AS build
WORKDIR /opt/sallyport
COPY package.json package-lock.json ./
RUN npm install --no-save --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts/ scripts/
COPY src/ src/
RUN node scripts/build-typescript.mjs && chmod 755 dist/main.js
COPY --from=native /build/sallyport.node native/sallyport.node
# the package lists are for the last of the sources that `crs install` tries
RUN apt-get update \
  && node dist/main.js crs install --state-dir /usr/share/sallyport \
  && chmod -R a+rX /usr/share/sallyport
RUN npm prune --omit=dev --no-audit --no-fund

FROM node:22-bookworm-slim
LABEL org.opencontainers.image.title="sallyport" org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
WORKDIR /opt/sallyport
COPY --from=build /opt/sallyport/package.json ./
COPY --from=build /opt/sallyport/node_modules/ node_modules/
COPY --from=build /opt/sallyport/native/ native/
COPY --from=build /opt/sallyport/dist/ dist/
COPY --from=build /usr/share/sallyport/ /usr/share/sallyport/
COPY LICENSE NOTICE ./
RUN ln -s /opt/sallyport/dist/main.js /usr/local/bin/sallyport \
  && groupadd --gid 10001 sallyport \
  && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/sallyport --shell /usr/sbin/nologin sallyport \
  && mkdir -p /etc/sallyport /var/lib/sallyport \
  && ln -s /usr/share/sallyport/crs /var/lib/sallyport/crs \
  && chown -R -h 10001:10001 /var/lib/sallyport \
  && chmod 700 /var/lib/sallyport
USER 10001:10001
WORKDIR /etc/sallyport
VOLUME /var/lib/sallyport
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["sallyport", "health"]
ENTRYPOINT ["sallyport"]
CMD ["run"]
