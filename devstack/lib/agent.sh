# nova-agent in the cluster, and Nova's own nova-compute to compare it with.

AGENT_YAML=$ETC/nova-agent.yaml
AGENT_STATE=$DATA/nova-agent
# Of this cluster alone, so that another agent on the machine is not taken for it.
AGENT_CGROUP=/nova-agent-$(basename "$CLUSTER_STATE")

# The Go that builds: the caller's if it is new enough, else Debian's backport,
# which fetches the release that go.mod names through Go's module proxy.
find_go() {
    local go
    for go in "$(PATH=$CALLER_PATH command -v go)" /usr/local/go/bin/go /usr/lib/go-1.2[1-9]/bin/go /usr/lib/go-1.[3-9]*/bin/go; do
        [ -x "$go" ] && (cd / && GOTOOLCHAIN=local "$go" version) | grep -qE 'go1\.(2[1-9]|[3-9][0-9])' && { echo "$go"; return 0; }
    done
    return 1
}
install_go() {
    local log version
    log=$(mktemp)
    {
        # Backports come from where the distribution's own packages come from.
        sed -n 's/^deb \(.*\) bookworm main.*/deb \1 bookworm-backports main/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sort -u > /etc/apt/sources.list.d/nova-agent-backports.list
        [ -s /etc/apt/sources.list.d/nova-agent-backports.list ] ||
            awk '/^URIs:/ && !/security/ {print "deb " $2 " bookworm-backports main"; exit}' /etc/apt/sources.list.d/debian.sources \
                > /etc/apt/sources.list.d/nova-agent-backports.list
        apt-get -q update
        version=$(apt-cache search --names-only '^golang-1\.[0-9]+-go$' | grep -oE '1\.[0-9]+' | sort -V | tail -n 1)
        DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends -t bookworm-backports "golang-$version-go"
    } > "$log" 2>&1 || fail_with_log "no Go that can build nova-agent: install Go $(awk '$1 == "go" {print $2}' "$PROJECT/go.mod") or newer" "$log"
    rm -f "$log"
}
build_agent() {
    [ -z "${NOVA_AGENT_BIN:-}" ] || { [ -x "$NOVA_AGENT_BIN" ] || die "NOVA_AGENT_BIN=$NOVA_AGENT_BIN is not a program"; return 0; }
    local go log=$LOG/build.log
    find_go >/dev/null || install_go
    go=$(find_go) || die "no Go toolchain: install Go $(awk '$1 == "go" {print $2}' "$PROJECT/go.mod") or newer"
    # An older Go fetches the release that go.mod asks for, if it may.
    GOTOOLCHAIN=auto make -C "$PROJECT" build GO="$go" > "$log" 2>&1 || fail_with_log "nova-agent could not be built" "$log"
}

# The way an operator does it: the node's nova.conf becomes nova-agent's file.
agent_config() {
    ( umask 077
      "$AGENT_BIN" config import --output "$AGENT_YAML.new" --set state_dir="$AGENT_STATE" \
          --set run_dir="$RUN/nova-agent" --set engine.cgroup_parent="$AGENT_CGROUP" "$ETC/nova/nova-compute.conf" ) > "$LOG/config-import.log" 2>&1 ||
        fail_with_log "nova-agent config import failed" "$LOG/config-import.log"
    mv "$AGENT_YAML.new" "$AGENT_YAML"
}
agent_start() {
    pid_of nova-compute >/dev/null && die "the reference nova-compute runs under the same host name: devstack/cluster reference stop"
    agent_config
    start nova-agent "$AGENT_BIN" run --config "$AGENT_YAML"
}
agent_purge() { # containers and all that belongs to them, of an agent that is stopped
    [ -d "$AGENT_STATE" ] && [ -x "$AGENT_BIN" ] || return 0
    "$AGENT_BIN" purge --config "$AGENT_YAML" --yes > "$LOG/purge.log" 2>&1 || fail_with_log "the containers could not be removed" "$LOG/purge.log"
}
agent_command() {
    need_root
    case ${1:-} in
        start) agent_start ;;
        stop) stop nova-agent 60 ;;
        restart) stop nova-agent 60; agent_start ;;
        kill) local pid; pid=$(pid_of nova-agent) || die "nova-agent does not run"; kill -KILL "$pid" ;;
        *) die "agent: start, stop, restart or kill" ;;
    esac
}

# Debian's nova-compute package brings libvirt and QEMU along; the program itself
# is in python3-nova, which nova-api needs anyway.
reference_command() {
    need_root
    case ${1:-} in
        start)
            pid_of nova-agent >/dev/null && die "nova-agent runs under the same host name: devstack/cluster agent stop"
            start nova-compute "$PYTHON" -c 'import sys; from nova.cmd.compute import main; sys.exit(main())' \
                --config-file "$ETC/nova/nova-compute.conf" --config-file "$ETC/nova/reference.conf"
            "$PYTHON" "$SELF/lib/contents.py" compute "$CLUSTER_HOST" || fail_with_log "nova-compute does not come up" "$LOG/nova-compute.log" ;;
        stop) stop nova-compute 20 ;;
        *) die "reference: start or stop" ;;
    esac
}
