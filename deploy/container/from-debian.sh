#!/bin/bash
# Makes the images of deploy/compose without a registry: a minimal Debian from the mirror that this
# machine's apt uses, with binaries that are built here. Needs root, debootstrap and docker.
#
#   deploy/container/from-debian.sh                  build the binaries, make the images
#   deploy/container/from-debian.sh --binaries DIR   take weir-node and weir from DIR
#
# Images that this very script has made are kept, but for the binaries: remove them for newer packages.
# The packages, accounts and entry points are those of the Dockerfile: change both.

set -euo pipefail

readonly SUITE=bookworm
readonly NODE_IMAGE=weir:0.1.0
readonly HOST_IMAGE=weir-host:$SUITE
readonly ZOOKEEPER_IMAGE=weir-zookeeper:3.8
readonly PROMETHEUS_IMAGE=weir-prometheus:2.42

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binaries=

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

fail() {
    echo "from-debian.sh: $1" >&2
    exit "${2:-1}"
}

step() {
    echo "== $1" >&2
}

# Prints one line of sources.list for each of Debian's own repositories of $SUITE that apt uses.
apt_sources() {
    apt-get indextargets --format '$(ORIGIN) $(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$SUITE" '$1 == "Debian" && $3 ~ "^" suite "(-|$)" { print "deb", $2, $3, $4 }' |
        sort -u
}

# Runs a command inside the tree $1. What it mounts ends with it.
inside() {
    local tree=$1
    shift
    unshare --mount --pid --fork bash -ec '
        mount --make-rprivate /
        mount -t proc proc "$1/proc"
        exec chroot "$@"' inside "$tree" "$@"
}

# Installs packages in the tree $1 from the machine's mirror, and leaves no trace of the mirror.
install_packages() {
    local tree=$1
    shift
    cp /etc/resolv.conf "$tree/etc/resolv.conf"
    printf '%s\n' "$sources" >"$tree/etc/apt/sources.list"
    [[ -z $proxy ]] || printf 'Acquire::http::Proxy "%s";\n' "$proxy" >"$tree/etc/apt/apt.conf.d/99proxy"
    DEBIAN_FRONTEND=noninteractive inside "$tree" sh -ec '
        apt-get -q update
        apt-get -q -y upgrade
        apt-get -q -y install --no-install-recommends "$@"
        apt-get clean' install "$@" >"$work/apt.log" 2>&1 ||
        { tail -n 30 "$work/apt.log" >&2; fail "apt-get could not install $*"; }
    rm -rf "$tree"/etc/resolv.conf "$tree"/etc/apt/sources.list "$tree"/etc/apt/apt.conf.d/99proxy \
        "$tree"/var/lib/apt/lists/* "$tree"/var/log/*.log "$tree"/usr/share/{doc,man,locale}/*
}

# Whether the image $1 was made by this script, as it is now.
is_current() {
    [[ $(docker image inspect --format '{{ index .Config.Labels "weir.recipe" }}' "$1" 2>/dev/null) == "$recipe" ]]
}

# Makes the image $2 of the tree $1; what follows are Dockerfile instructions.
import_image() {
    local tree=$1 image=$2 instruction changes=(--change "LABEL weir.recipe=$recipe")
    shift 2
    for instruction; do changes+=(--change "$instruction"); done
    tar -C "$tree" --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -c . |
        docker import "${changes[@]}" - "$image"
}

while [[ $# -gt 0 ]]; do
    case $1 in
    --binaries) binaries=${2:?"--binaries needs a directory"}; shift 2 ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; fail "unknown argument $1" 2 ;;
    esac
done

[[ $EUID -eq 0 ]] || fail "debootstrap needs root"
for tool in debootstrap docker unshare; do
    command -v "$tool" >/dev/null || fail "no $tool: apt-get install debootstrap docker.io util-linux"
done
docker version >/dev/null || fail "no Docker daemon answers: start one, or set DOCKER_HOST"
sources=$(apt_sources)
[[ -n $sources ]] || fail "apt on this machine has no source of Debian $SUITE; add one and run apt-get update"
mirror=$(awk -v suite="$SUITE" '$3 == suite { print $2; exit }' <<<"$sources")
[[ -n $mirror ]] || fail "apt on this machine has updates of Debian $SUITE but not $SUITE itself"
proxy=
eval "$(apt-config shell proxy Acquire::http::Proxy)"
[[ -z $proxy ]] || export http_proxy=$proxy

if [[ -z $binaries ]]; then
    step "building weir-node and weir"
    (cd "$repository" && cargo build --release --locked -p weir-node -p weir)
    binaries=${CARGO_TARGET_DIR:-$repository/target}/release
fi
for binary in weir-node weir; do
    [[ -x $binaries/$binary ]] || fail "no $binary in $binaries"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/weir-images.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
recipe=$(sha256sum "${BASH_SOURCE[0]}" | cut -c 1-16)

# A tree $1 of a minimal Debian, of which there is one copy at first.
minimal_debian() {
    if [[ ! -d $work/base ]]; then
        step "minimal Debian $SUITE"
        debootstrap --variant=minbase "$SUITE" "$work/base" "$mirror" >"$work/debootstrap.log" 2>&1 ||
            { tail -n 30 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
    fi
    cp -a "$work/base" "$1"
}

if ! is_current "$HOST_IMAGE"; then
    minimal_debian "$work/host"
    step "$HOST_IMAGE"
    install_packages "$work/host" iproute2
    inside "$work/host" useradd --system --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin weir
    import_image "$work/host" "$HOST_IMAGE"
fi

if ! is_current "$ZOOKEEPER_IMAGE"; then
    minimal_debian "$work/zookeeper"
    step "$ZOOKEEPER_IMAGE"
    install_packages "$work/zookeeper" default-jre-headless libzookeeper-java
    import_image "$work/zookeeper" "$ZOOKEEPER_IMAGE" \
        'ENTRYPOINT ["java", "-XX:+UseSerialGC", "-Dzookeeper.jmx.log4j.disable=true", "-cp", "/usr/share/java/zookeeper.jar", "org.apache.zookeeper.server.quorum.QuorumPeerMain"]' \
        'CMD ["/etc/zookeeper/zoo.cfg"]'
fi

if ! is_current "$PROMETHEUS_IMAGE"; then
    minimal_debian "$work/prometheus"
    step "$PROMETHEUS_IMAGE"
    install_packages "$work/prometheus" prometheus
    import_image "$work/prometheus" "$PROMETHEUS_IMAGE" \
        'USER prometheus' \
        'ENTRYPOINT ["/usr/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/var/lib/prometheus/metrics2", "--storage.tsdb.retention.time=1d", "--web.listen-address=0.0.0.0:9090"]'
fi

step "$NODE_IMAGE"
mkdir "$work/node"
install -m 0755 "$binaries/weir-node" "$binaries/weir" "$work/node/"
docker build --quiet --tag "$NODE_IMAGE" --file - "$work/node" <<DOCKERFILE
FROM $HOST_IMAGE
COPY weir-node weir /usr/bin/
ENTRYPOINT ["/usr/bin/weir-node"]
DOCKERFILE
for binary in weir-node weir; do
    docker run --rm --network none --entrypoint "/usr/bin/$binary" "$NODE_IMAGE" --version ||
        fail "$binary does not run on Debian $SUITE: build it on $SUITE, or use the Dockerfile"
done
