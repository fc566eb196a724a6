# The external network, and taking away what Neutron's agents leave behind.

net_up() {
    [ -f "$RUN/net.before" ] || {
        ip netns list 2>/dev/null | awk '{print "ns " $1}'
        ip -o link show 2>/dev/null | awk -F': ' '{sub(/@.*/, "", $2); print "link " $2}'
    } > "$RUN/net.before"
    [ -f "$RUN/netns.before" ] || { mountpoint -q /run/netns && echo mounted || echo; } > "$RUN/netns.before"
    [ -f "$RUN/forward.before" ] || cat /proc/sys/net/ipv4/ip_forward > "$RUN/forward.before"
    ip link show $EXT_BRIDGE >/dev/null 2>&1 || ip link add $EXT_BRIDGE type bridge
    ip link set $EXT_BRIDGE up
    ip addr replace $EXT_IP/24 dev $EXT_BRIDGE
    ip route replace unreachable $EXT_NET metric 9999
    ip route replace unreachable $TENANT_NET metric 9999
    # Security groups see bridged packets only with br_netfilter.
    modprobe br_netfilter 2>/dev/null
    sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 2>/dev/null
    return 0
}

net_down() {
    local n t
    [ -f "$RUN/net.before" ] || return 0
    for n in $(ip netns list 2>/dev/null | awk '{print $1}' | grep -E '^(qdhcp|qrouter)-'); do
        grep -qx "ns $n" "$RUN/net.before" || ip netns delete "$n"
    done
    # The first 'ip netns add' made the folder a mount.
    if ! grep -q mounted "$RUN/netns.before" && mountpoint -q /run/netns && [ -z "$(ls -A /run/netns)" ]; then
        umount /run/netns
    fi
    for n in $(ip -o link show 2>/dev/null | awk -F': ' '{sub(/@.*/, "", $2); print $2}' \
               | grep -E "^(brq|vxlan-|tap|$EXT_BRIDGE\$)"); do
        grep -qx "link $n" "$RUN/net.before" || ip link delete "$n" 2>/dev/null
    done
    ip route del unreachable $EXT_NET metric 9999 2>/dev/null
    ip route del unreachable $TENANT_NET metric 9999 2>/dev/null
    for t in iptables ip6tables; do drop_chains $t; done
    drop_ebtables
    drop_ipsets
    [ ! -s "$RUN/forward.before" ] || cat "$RUN/forward.before" > /proc/sys/net/ipv4/ip_forward
    rm -f "$RUN/net.before" "$RUN/netns.before" "$RUN/forward.before"
}

# Delete Neutron's chains and the rules that lead to them, nothing else.
drop_chains() { # iptables|ip6tables
    command -v "$1-save" >/dev/null || return 0
    local batch
    batch=$("$1-save" 2>/dev/null | awk '
        /^\*/ { table = $0 }
        /^:neutron-/ { c = substr($1, 2); flush = flush "-F " c "\n"; del = del "-X " c "\n" }
        /^-A / && !/^-A neutron-/ && /neutron-/ { sub(/^-A/, "-D"); rules = rules $0 "\n" }
        /^COMMIT/ { if (flush != "") printf "%s\n%s%s%sCOMMIT\n", table, rules, flush, del
                    rules = ""; flush = ""; del = "" }')
    [ -z "$batch" ] || printf '%s\n' "$batch" | "$1-restore" --noflush
}

# The same for the ARP protection of the Linux bridge agent.
drop_ebtables() {
    command -v ebtables >/dev/null || return 0
    local chain n
    for chain in $(ebtables -t nat -L 2>/dev/null | grep -oE '^Bridge chain: neutron(MAC|ARP)-[^,]+' | awk '{print $3}'); do
        while n=$(ebtables -t nat -L PREROUTING --Ln | awk -v c="$chain" '$NF == c {sub(/\..*/, "", $1); print $1; exit}') && [ -n "$n" ]; do
            ebtables -t nat -D PREROUTING "$n" || break
        done
        ebtables -t nat -F "$chain"
        ebtables -t nat -X "$chain"
    done
}

drop_ipsets() {
    command -v ipset >/dev/null || return 0
    local s
    for s in $(ipset list -n 2>/dev/null | grep -E '^N(IPv4|IPv6|ET)'); do ipset destroy "$s" 2>/dev/null; done
    return 0
}
