"""Reads docker/compose.yaml, and the Dockerfiles that it names, for tests/docker.sh.

compose.py check               every file that it names exists, what it declares is used, its parts fit together
compose.py plan                the way up, in order: `run ca`, `healthy broker`, `start agent`
compose.py podman SERVICE      the service as arguments of `podman run`, one a line, image and command included
compose.py bare SERVICE        the same for an engine of one's own, `what value...` a line
compose.py dockerfile SERVICE  its Dockerfile for a machine that fetches no images (see `standing_in`)

Whatever it does not know it refuses: a key that is new to compose.yaml is new here too.
"""

import json
import pathlib
import re
import sys

import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docker"
REPOSITORY = FOLDER.parent

SERVICE = (
    "build image user command ports volumes environment depends_on healthcheck read_only network_mode cap_drop cap_add"
    " security_opt tmpfs restart logging mem_limit cpus pids_limit init stop_grace_period"
)
# Of what is inside: the path without the names that compose.yaml chooses, and the keys that may stand there.
KEYS = {
    "": "services volumes",
    "service": SERVICE,
    "build": "context dockerfile",
    "depends_on": "condition",
    "healthcheck": "test interval timeout retries",
    "logging": "driver options",
    "logging.options": "max-size max-file",
    "volumes": "type source target read_only bind",
    "volumes.bind": "propagation",
}
INSTRUCTIONS = "FROM RUN COPY ENV USER VOLUME HEALTHCHECK ENTRYPOINT CMD".split()


def fail(what):
    sys.exit(f"docker/compose.yaml: {what}")


def refuse_unknown(where, kind, found):
    unknown = [key for key in found if key not in KEYS[kind].split() and not (kind == "" and key.startswith("x-"))]
    if unknown:
        fail(f"{where}: the tests know nothing of {', '.join(unknown)}; teach tests/tools/compose.py what it does")


def refuse_unknown_everywhere(compose):
    refuse_unknown("top", "", compose)
    for name, service in compose["services"].items():
        refuse_unknown(name, "service", service)
        for kind in ("build", "healthcheck", "logging"):
            refuse_unknown(f"{name}.{kind}", kind, service.get(kind, {}))
        refuse_unknown(f"{name}.logging.options", "logging.options", service.get("logging", {}).get("options", {}))
        for other, how in service.get("depends_on", {}).items():
            refuse_unknown(f"{name}.depends_on.{other}", "depends_on", how)
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                refuse_unknown(f"{name}.volumes", "volumes", volume)
                refuse_unknown(f"{name}.volumes.bind", "volumes.bind", volume.get("bind", {}))
    for name, options in compose["volumes"].items():
        if options:
            fail(f"volume {name}: the tests know volumes without options only")


def mounts(service):
    """(source, target, options, whether a named volume) of each volume, in either spelling."""
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            source, target, *options = volume.split(":")
            named = source[0] not in "./"
        else:
            source, target, named = volume["source"], volume["target"], volume["type"] == "volume"
            options = ["ro"] * bool(volume.get("read_only")) + list(volume.get("bind", {}).values())
        yield source if named else str((FOLDER / source).resolve()), target, options, named


# --- Dockerfiles ----------------------------------------------------------------------------------------------------


def final_stage(service):
    """(instruction, rest) of its Dockerfile from the last FROM on; of an image that is fetched, nothing but that."""
    if "image" in service:
        return [("FROM", service["image"])]
    path = FOLDER / service["build"]["context"] / service["build"]["dockerfile"]
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    stage = []
    for line in lines:
        instruction, rest = line.split(None, 1)
        if instruction not in INSTRUCTIONS and instruction not in ("ARG", "WORKDIR"):
            sys.exit(f"{path}: the tests know nothing of {instruction}")
        if instruction == "FROM":
            stage = []
        stage.append((instruction, rest))
    return stage


def standing_in(name, service):
    """The final stage as it is shipped, with two things in the place of what would be fetched.

    An earlier stage is a folder, the context, that already holds what that stage would have made. A base image is
    `localhost/base-NAME`, which has what the RUN lines would install.
    """
    (_, base), *stage = final_stage(service)
    if base == "scratch":
        yield "FROM scratch AS build"
        yield "COPY . /out/"
        yield "FROM scratch"
    else:
        yield f"FROM localhost/base-{name}"
    for instruction, rest in stage:
        if instruction != "RUN":
            yield f"{instruction} {rest}"
        elif base == "scratch" or not rest.startswith("apt-get update && apt-get install"):
            fail(f"{name}: its Dockerfile runs more than an installation: {rest}")
    # podman 4.3 splits at blanks what --health-cmd says.
    if "healthcheck" in service:
        yield f"HEALTHCHECK CMD {json.dumps(service['healthcheck']['test'][1:])}"


def copies(service):
    """(owner, sources, target) of each COPY of the final stage."""
    for instruction, rest in final_stage(service):
        if instruction == "COPY":
            words = rest.split()
            options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
            *sources, target = (word for word in words if not word.startswith("--"))
            yield options.get("chown", "0:0"), [re.sub("^/out/", "", source) for source in sources], target


def image_settings(service):
    """What the image says of how it is run: ENTRYPOINT, CMD, USER, ENV and the command of HEALTHCHECK."""
    settings = {"ENTRYPOINT": [], "CMD": [], "USER": "0:0", "ENV": [], "HEALTHCHECK": None}
    for instruction, rest in final_stage(service):
        if instruction in ("ENTRYPOINT", "CMD"):
            settings[instruction] = json.loads(rest)
        elif instruction == "HEALTHCHECK":
            settings[instruction] = json.loads(rest.split(" CMD ", 1)[1])
        elif instruction == "ENV":
            settings["ENV"].append(rest)
        elif instruction == "USER":
            settings["USER"] = rest
    return settings


# --- checks ---------------------------------------------------------------------------------------------------------


def check(compose):
    declared = set(compose["volumes"])
    used = set()
    for name, service in compose["services"].items():
        check_files(name, service)
        check_confinement(name, service)
        check_dependencies(name, compose["services"])
        used |= {source for source, _, _, named in mounts(service) if named}
    if used != declared:
        fail(f"volumes used {sorted(used)}, declared {sorted(declared)}")


def check_files(name, service):
    if ("build" in service) == ("image" in service):
        fail(f"{name} has to have an image, or what to build it from")
    if service.get("healthcheck", {}).get("test", ["CMD"])[0] != "CMD":
        fail(f"{name}: the tests know no health check by a shell")
    for source, _, options, named in mounts(service):
        if not named and not pathlib.Path(source).exists():
            fail(f"{name}: {source} does not exist")
        if not named and "ro" not in options:
            fail(f"{name}: {source} is mounted writable")


def check_confinement(name, service):
    confined = service.get("read_only") is True and service.get("cap_drop") == ["ALL"]
    if not confined or service.get("security_opt") != ["no-new-privileges:true"]:
        fail(f"{name} is not confined")
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            fail(f"{name}: port {port} is open to other machines")


def check_dependencies(name, services):
    for other, how in services[name].get("depends_on", {}).items():
        if other not in services:
            fail(f"{name} depends on {other}, which is no service")
        if how["condition"] == "service_healthy":
            if "healthcheck" not in services[other] and not image_settings(services[other])["HEALTHCHECK"]:
                fail(f"{name} waits for the health of {other}, which has no health check")
        elif how["condition"] == "service_completed_successfully":
            if services[other].get("restart", "no") != "no":
                fail(f"{name} waits for the end of {other}, which is started again")
        else:
            fail(f"{name} depends on {other} in a way that the tests do not know: {how['condition']}")


# --- how to start it ------------------------------------------------------------------------------------------------


def plan(services):
    """Each service after those that it depends on; a wait stands before the first that needs it."""
    done = []
    ending = {
        other
        for service in services.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }

    def say(step):
        if step not in done:
            done.append(step)

    def bring_up(name):
        for other, how in services[name].get("depends_on", {}).items():
            bring_up(other)
            if how["condition"] == "service_healthy":
                say(f"healthy {other}")
        say(f"{'run' if name in ending else 'start'} {name}")

    for name in services:
        bring_up(name)
    return done


def podman(name, service):
    """All services are in one pod, and so on one address: what `ports` says has no meaning there."""
    yield from ("--name", name)
    yield from ("--network", service["network_mode"]) if "network_mode" in service else ("--pod", "lab")
    yield from (f"--read-only={str(service['read_only']).lower()}", "--read-only-tmpfs=false")
    yield from (f"--cap-drop={word}" for word in service["cap_drop"])
    yield from (f"--cap-add={word}" for word in service.get("cap_add", []))
    # podman spells it without the value.
    yield from (f"--security-opt={word.removesuffix(':true')}" for word in service["security_opt"])
    yield from (f"--tmpfs={path}" for path in service.get("tmpfs", []))
    yield from (f"--env={key}={value}" for key, value in service.get("environment", {}).items())
    for key, option in {"user": "user", "mem_limit": "memory", "cpus": "cpus", "pids_limit": "pids-limit"}.items():
        if key in service:
            yield f"--{option}={service[key]}"
    if service.get("init"):
        yield "--init"
    if "restart" in service:
        yield f"--restart={service['restart']}"
    if "stop_grace_period" in service:
        yield f"--stop-timeout={service['stop_grace_period'].removesuffix('s')}"
    # podman's json-file is its k8s-file; how many files are kept is Docker's alone.
    yield "--log-driver=k8s-file"
    if size := service.get("logging", {}).get("options", {}).get("max-size"):
        yield f"--log-opt=max-size={size}"
    for source, target, options, _ in mounts(service):
        yield f"--volume={source}:{target}" + (":" + ",".join(options) if options else "")
    yield f"localhost/{name}"
    yield from service.get("command", [])


def bare(name, service):
    """`mount`, `volume`, `tmpfs`, `env`, `word` (of the command), `probe` (of its health), and single settings."""
    image = image_settings(service)
    yield f"user {service.get('user', image['USER'])}"
    yield f"network {service.get('network_mode', 'shared')}"
    yield f"init {bool(service.get('init'))}"
    yield f"grace {service.get('stop_grace_period', '10s').removesuffix('s')}"
    yield from (f"capability {word.lower()}" for word in service.get("cap_add", []))
    yield from (f"tmpfs {path}" for path in service.get("tmpfs", []))
    yield from (f"env {pair}" for pair in image["ENV"])
    yield from (f"env {key}={value}" for key, value in service.get("environment", {}).items())
    for source, target, options, named in mounts(service):
        yield f"{'volume' if named else 'mount'} {source} {target} {','.join(options) or 'rw'}"
    for owner, sources, target in copies(service):
        yield f"copy {owner} {target} {' '.join(sources)}"
    yield from (f"word {word}" for word in image["ENTRYPOINT"] + service.get("command", image["CMD"]))
    probe = service["healthcheck"]["test"][1:] if "healthcheck" in service else image["HEALTHCHECK"] or []
    yield from (f"probe {word}" for word in probe)


def main():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    refuse_unknown_everywhere(compose)
    what, *rest = sys.argv[1:] or [None]
    if what == "check" and not rest:
        check(compose)
        return
    if what == "plan" and not rest:
        lines = plan(compose["services"])
    elif what in ("podman", "bare", "dockerfile") and len(rest) == 1:
        printer = {"podman": podman, "bare": bare, "dockerfile": standing_in}[what]
        lines = printer(rest[0], compose["services"][rest[0]])
    else:
        sys.exit(__doc__)
    print("\n".join(lines))


main()
