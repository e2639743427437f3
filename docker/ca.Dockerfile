# Makes the laboratory's authority and certificates at the first start of compose.yaml, and ends.
#   docker build -f docker/ca.Dockerfile -t holdover-lab-ca .
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends openssl && rm -rf /var/lib/apt/lists/*
COPY broker-config/mosquitto/lab-ca.sh broker-config/mosquitto/acl docker/lab.sh /lab/
ENTRYPOINT ["/lab/lab.sh"]
