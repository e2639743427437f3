#!/bin/sh
# Makes a small certificate authority and certificates from it, for a laboratory, a trial or the tests.
#
# It keeps the authority's key as a plain file beside the certificates. That is right for a laboratory and wrong
# for a fleet: there, sign with the authority you have (EST, step-ca, Vault ...) and keep its key elsewhere.
#
# Keys are EC P-256. Running it again keeps a certificate that fits its key and is good for another week, unless
# --force, --days or --san ask for a new one.
set -eu

usage() {
    cat >&2 <<'USAGE'
usage: lab-ca.sh DIR ca     [--days N]
       lab-ca.sh DIR server NAME [--san DNS:name|IP:address]... [--days N] [--force]
       lab-ca.sh DIR client NAME [--days N] [--force]

ca      DIR/ca.crt and DIR/ca.key. The other two make them as well when they are missing.
server  DIR/server.crt and DIR/server.key for a broker called NAME. Without --san it is also good for localhost,
        127.0.0.1 and ::1; with --san it is good for NAME and for what is given, and for nothing else.
client  DIR/NAME.crt and DIR/NAME.key. NAME is the common name: the host id of an agent, or `hub`.
        Letters, digits, '_' and '-' only, at most 64.
--days  How long it is valid (authority 3650, server 825, client 365). 0 makes one that was good in January 2020 only.
--force Makes a new key and certificate even if the present one is good.
USAGE
    exit 64
}

fail() {
    echo "lab-ca.sh: $1" >&2
    exit 1
}

[ $# -ge 2 ] || usage
dir=$1 what=$2
shift 2
name= days= sans= force=no
case $what in
ca) ;;
server | client)
    [ $# -ge 1 ] || usage
    name=$1
    shift
    ;;
*) usage ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
    --days) [ $# -ge 2 ] || usage; days=$2; shift 2 ;;
    --san) [ $# -ge 2 ] || usage; sans="$sans,$2"; shift 2 ;;
    --force) force=yes; shift ;;
    *) usage ;;
    esac
done
case $days in *[!0-9]*) fail "--days takes a number, not '$days'" ;; esac
command -v openssl >/dev/null || fail "openssl is not installed (Debian: apt-get install openssl)"

case $what in
client)
    case $name in
    '') fail "the client name is empty; give the host id" ;;
    *[!A-Za-z0-9_-]*)
        like=$(printf %s "$name" | tr -c 'A-Za-z0-9_-' -)
        fail "client name '$name': it is a level of every topic, where only letters, digits, '_' and '-' may stand (no dots, \
some brokers take them for levels); call it '$like', and the host in its configuration as well: id = \"$like\""
        ;;
    ca | server) fail "client name '$name' is taken by the authority's own files" ;;
    esac
    [ ${#name} -le 64 ] || fail "client name '$name' is longer than 64 characters"
    ;;
server)
    case $name in '' | *[!A-Za-z0-9._:-]*) fail "server name '$name' is neither a host name nor an address" ;; esac
    [ ${#name} -le 64 ] || fail "server name '$name' is longer than 64 characters; give a shorter one, and this with --san"
    ;;
esac

umask 077
if [ ! -d "$dir" ]; then
    mkdir -p "$dir" || fail "cannot make the directory $dir"
    # Public certificates that the broker's user must reach; the keys guard themselves.
    chmod 755 "$dir"
fi
scratch=$(mktemp -d "$dir/.lab-ca.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# new_key FILE
new_key() {
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ||
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>"$scratch/err" ||
        fail "cannot make a key: $(cat "$scratch/err")"
}

# sign BASE SUBJECT EXTENSIONS-FILE DAYS: $scratch/BASE.key -> $scratch/BASE.crt
sign() {
    openssl req -new -key "$scratch/$1.key" -subj "$2" -out "$scratch/$1.csr" 2>"$scratch/err" ||
        fail "cannot make a request for $1: $(cat "$scratch/err")"
    if [ "$4" -gt 0 ]; then
        openssl x509 -req -sha256 -in "$scratch/$1.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" \
            -set_serial "0x$(openssl rand -hex 15)" -days "$4" -extfile "$3" \
            -out "$scratch/$1.crt" 2>"$scratch/err" || fail "cannot sign $1: $(cat "$scratch/err")"
    else
        sign_expired "$@"
    fi
}

# The same for a certificate that was good in January 2020; only `openssl ca` of OpenSSL 3.0 can set both dates.
sign_expired() {
    : >"$scratch/index"
    cat >"$scratch/expired.cnf" <<CNF
[ca]
default_ca = lab
[lab]
database = $scratch/index
new_certs_dir = $scratch
certificate = $dir/ca.crt
private_key = $dir/ca.key
default_md = sha256
rand_serial = yes
policy = any
[any]
commonName = supplied
CNF
    openssl ca -batch -notext -config "$scratch/expired.cnf" -extfile "$3" -in "$scratch/$1.csr" \
        -startdate 20200101000000Z -enddate 20200201000000Z \
        -out "$scratch/$1.crt" 2>"$scratch/err" || fail "cannot sign $1: $(cat "$scratch/err")"
}

# fits BASE: certificate and key belong together
fits() {
    [ -s "$dir/$1.crt" ] && [ -s "$dir/$1.key" ] &&
        openssl x509 -in "$dir/$1.crt" -noout -pubkey >"$scratch/crt.pub" 2>/dev/null &&
        openssl pkey -in "$dir/$1.key" -pubout >"$scratch/key.pub" 2>/dev/null &&
        cmp -s "$scratch/crt.pub" "$scratch/key.pub"
}

# good BASE: still valid for a week, from this authority, and with its key
good() {
    fits "$1" && openssl x509 -in "$dir/$1.crt" -noout -checkend 604800 >/dev/null 2>&1 &&
        openssl verify -CAfile "$dir/ca.crt" "$dir/$1.crt" >/dev/null 2>&1
}

keep() {
    echo "kept $dir/$1.crt (valid until $(openssl x509 -in "$dir/$1.crt" -noout -enddate | cut -d= -f2); --force makes a new one)"
}

# publish BASE: the key first, so that a certificate is never there without its key
publish() {
    chmod 600 "$scratch/$1.key"
    chmod 644 "$scratch/$1.crt"
    mv "$scratch/$1.key" "$dir/$1.key"
    mv "$scratch/$1.crt" "$dir/$1.crt"
}

make_ca() {
    if [ -s "$dir/ca.key" ] && [ -s "$dir/ca.crt" ]; then
        fits ca || fail "$dir/ca.key is not the key of $dir/ca.crt: restore the right one, or start in a new directory"
        openssl x509 -in "$dir/ca.crt" -noout -checkend 604800 >/dev/null ||
            fail "$dir/ca.crt ends within a week: make a new authority in a new directory and hand its ca.crt out"
        return
    fi
    [ ! -e "$dir/ca.key" ] || fail "$dir/ca.key is there without ca.crt: move it away, or restore the certificate"
    [ ! -e "$dir/ca.crt" ] || fail "$dir/ca.crt is there without ca.key: whoever has that key must sign, or take a new directory"
    new_key "$scratch/ca.key"
    # A name of its own: of two authorities with one name a client can only say that a signature is bad.
    cat >"$scratch/ca.cnf" <<CNF
[req]
distinguished_name = dn
x509_extensions = ext
prompt = no
[dn]
CN = Holdover lab CA $(openssl rand -hex 4)
[ext]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CNF
    openssl req -x509 -new -sha256 -key "$scratch/ca.key" -config "$scratch/ca.cnf" \
        -days "${1:-3650}" -out "$scratch/ca.crt" 2>"$scratch/err" || fail "cannot make the authority: $(cat "$scratch/err")"
    publish ca
    echo "made $dir/ca.crt (valid ${1:-3650} days)"
}

make_server() {
    if [ "$force" = no ] && [ -z "$days" ] && [ -z "$sans" ] && good server &&
        openssl x509 -in "$dir/server.crt" -noout -subject | grep -q "CN *= *$name\$"; then
        keep server
        return
    fi
    case $name in
    *[!0-9.]*) case $name in *:*) own=IP:$name ;; *) own=DNS:$name ;; esac ;;
    *) own=IP:$name ;;
    esac
    if [ -z "$sans" ]; then
        sans=,IP:127.0.0.1,IP:::1
        [ "$name" = localhost ] || sans=,DNS:localhost$sans
    fi
    cat >"$scratch/ext" <<EXT
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $own$sans
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
EXT
    new_key "$scratch/server.key"
    sign server "/CN=$name" "$scratch/ext" "${days:-825}"
    publish server
    # The broker starts as root and then gives up its rights: its group must be able to read its key.
    if [ "$(id -u)" = 0 ] && getent group mosquitto >/dev/null 2>&1; then
        chgrp mosquitto "$dir/server.key"
        chmod 640 "$dir/server.key"
    fi
    echo "made $dir/server.crt for $own$sans (valid ${days:-825} days)"
}

make_client() {
    if [ "$force" = no ] && [ -z "$days" ] && good "$name"; then
        keep "$name"
        return
    fi
    cat >"$scratch/ext" <<'EXT'
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
EXT
    new_key "$scratch/$name.key"
    sign "$name" "/CN=$name" "$scratch/ext" "${days:-365}"
    publish "$name"
    echo "made $dir/$name.crt (valid ${days:-365} days)"
}

case $what in
ca) make_ca "$days" ;;
server) make_ca ''; make_server ;;
client) make_ca ''; make_client ;;
esac
