#!/bin/sh
# Fills the volumes of compose.yaml: the authority stays in its own, every other service gets what it needs and no
# more. Runs at every start; lab-ca.sh keeps what is still good and renews what ends within a week.
set -eu
lab=$(dirname "$0")
volumes=${LAB_VOLUMES:-/volumes}
# The user of the mosquitto image, and that of our own images.
broker_user=1883:1883 our_user=65532:65532

# give USER FOLDER FILE...: copies, readable by that user alone
give() {
    owner=$1 folder=$2
    shift 2
    for file in "$@"; do
        cp "$file" "$volumes/$folder/.new"
        chmod 600 "$volumes/$folder/.new"
        chown "$owner" "$volumes/$folder/.new"
        mv "$volumes/$folder/.new" "$volumes/$folder/$(basename "$file")"
    done
}

ca=$volumes/authority
"$lab/lab-ca.sh" "$ca" server broker
for client in edge-01 hub viewer; do
    "$lab/lab-ca.sh" "$ca" client "$client"
done
give "$broker_user" broker "$ca/ca.crt" "$ca/server.crt" "$ca/server.key" "$lab/acl"
give "$our_user" agent "$ca/ca.crt" "$ca/edge-01.crt" "$ca/edge-01.key"
give "$our_user" hub "$ca/ca.crt" "$ca/hub.crt" "$ca/hub.key"
chown "$broker_user" "$volumes/broker-state"
