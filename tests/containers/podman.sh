# Containers by podman: sourced by tests/docker.sh, inside of its name spaces. bare.sh beside it has the same functions.
#
# Without systemd, without networks other than the pod's loopback, storage and state in $work alone. The limits stand
# for podman's own defaults, which a machine without CAP_SYS_RESOURCE cannot set.

engine_says="podman $(podman --version | sed 's/.* //') with runc: images built, containers run"

# Health is asked for by the test, there being no systemd whose timers would ask.
export DISABLE_HC_SYSTEMD=true

pod() {
    podman --root "$work/storage" --runroot "$work/run" --tmpdir "$work/run/libpod" --storage-driver vfs \
        --cgroup-manager cgroupfs --events-backend none --runtime runc "$@"
}

# engine_image NAME CONTEXT < DOCKERFILE
engine_image() {
    pod build --quiet --format docker --isolation chroot --tag "localhost/$1" --file - "$2" >"$work/built"
}

# Whether a container can be run at all; says why not.
engine_begin() {
    echo '127.0.0.1 localhost broker' >"$work/hosts"
    mkdir "$work/empty"
    cp "$(command -v catatonit)" "$work/empty/"
    printf 'FROM scratch\nCOPY . /\nENTRYPOINT ["/catatonit", "--version"]\n' | engine_image probe "$work/empty" &&
        begin_pod >"$work/built" 2>&1 && return
    cat "$work/built" >&2
    return 1
}

begin_pod() {
    pod pod create --name lab --network none --cgroup-parent "/$cgroup" &&
        pod run --rm --pod lab --ulimit nofile=1024:1024 --ulimit nproc=100:100 localhost/probe
}

# launch OPTION SERVICE
launch() {
    option=$1
    compose podman "$2" >"$work/arguments"
    set --
    while IFS= read -r argument; do set -- "$@" "$argument"; done <"$work/arguments"
    case " $* " in
    # In the place of the names that the network of compose.yaml gives to its services.
    *" --pod "*) set -- --volume "$work/hosts:/etc/hosts:ro" "$@" ;;
    *) set -- --cgroup-parent "/$cgroup" "$@" ;;
    esac
    pod run $option --ulimit nofile=1024:1024 --ulimit nproc=100:100 "$@"
}

engine_run() { launch --rm "$1"; }
engine_start() { launch --detach "$1" >/dev/null; }
engine_healthy() { pod healthcheck run "$1"; }
engine_inside() { pod exec "$@"; }
engine_pid() { pod inspect --format '{{.State.Pid}}' "$1"; }
# Standard output and standard error, as they came.
engine_output() { pod logs "$1" 2>&1; }

# Stops it as its settings say; its exit code is in $code.
engine_stop() {
    pod stop "$1" >/dev/null
    code=$(pod inspect --format '{{.State.ExitCode}}' "$1")
}
engine_remove() { pod rm "$1" >/dev/null; }
engine_restarts() { pod inspect --format '{{.RestartCount}}' "$1"; }
engine_volume() { pod volume inspect --format '{{.Mountpoint}}' "$1"; }

# Everything goes; prints what is there nevertheless.
engine_end() {
    pod pod rm lab >/dev/null
    pod volume rm --all --force >/dev/null
    pod ps --all --quiet
    pod volume ls --quiet
    pod pod ls --quiet
    mount | grep "$work/storage" || true
}
