#!/bin/bash
# Sends UDP datagrams to hosts of the fleet, each at a rate of its own.
#
#   traffic.sh [--seconds S] [--port P] HOST=RATE...      RATE in packets/s, up to 20000
#
# Runs in the image of the nodes, which has nothing but bash to send with: good for a look by hand,
# while `cargo xtask fleet traffic` is the source to measure with.

set -uo pipefail

seconds=5
port=9000
readonly MAX_RATE=20000
# Datagrams leave in batches: this many of them in a second.
readonly BATCHES=100

fail() {
    echo "traffic.sh: $1" >&2
    exit 2
}

# Microseconds since some point.
now() {
    echo "${EPOCHREALTIME/[.,]/}"
}

# Sends to $1 at $2 packets/s, always as many as are due by now. Prints how many left.
send() {
    local host=$1 rate=$2 begin due pause sent=0 refused=0
    # The file name makes bash open a connected socket; each printf is one datagram.
    exec {socket}<>"/dev/udp/$host/$port" || return 1
    exec {never}<> <(:)
    begin=$(now)
    local elapsed=0
    while ((elapsed < seconds * 1000000)); do
        elapsed=$((${EPOCHREALTIME/[.,]/} - begin))
        due=$((elapsed * rate / 1000000))
        while ((sent < due)); do
            # An ICMP error of an earlier datagram is reported in place of sending this one.
            printf weir >&"$socket" 2>/dev/null || { ((refused++)); printf weir >&"$socket"; }
            ((sent++))
        done 2>/dev/null
        read -rt "0.0$((100 / BATCHES))" -u "$never"
    done
    echo "$host: sent $sent in $((elapsed / 1000)) ms, $((sent * 1000000 / elapsed))/s"
}

targets=()
while [[ $# -gt 0 ]]; do
    case $1 in
    --seconds) seconds=${2:?}; shift 2 ;;
    --port) port=${2:?}; shift 2 ;;
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *=*) targets+=("$1"); shift ;;
    *) fail "unknown argument $1: see --help" ;;
    esac
done
((${#targets[@]})) || fail "no HOST=RATE: see --help"
[[ $seconds =~ ^[0-9]{1,4}$ ]] || fail "$seconds is not a number of seconds"
for target in "${targets[@]}"; do
    rate=${target#*=}
    [[ $rate =~ ^[0-9]{1,5}$ && $rate -le $MAX_RATE ]] || fail "$rate is not a rate of 0 to $MAX_RATE packets/s"
done
for target in "${targets[@]}"; do
    send "${target%%=*}" "${target#*=}" &
done
wait
