# Processes are started and stopped by hand, the same with and without systemd.
#
# RUN/NAME.pid holds "PID STARTTIME": the start time (field 22 of /proc/PID/stat)
# makes sure that a signal never reaches a process that merely got the same number.

starttime() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

pid_of() { # NAME: prints the pid if that very process is alive
    local pid started
    [ -s "$RUN/$1.pid" ] || return 1
    read -r pid started < "$RUN/$1.pid"
    [ -n "$started" ] && [ "$(starttime "$pid")" = "$started" ] || return 1
    echo "$pid"
}

start() { # NAME COMMAND...: in a session of its own, so that 'stop' reaches its workers too
    local name=$1; shift
    pid_of "$name" >/dev/null && return 0
    setsid "$@" >> "$LOG/$name.log" 2>&1 < /dev/null &
    local pid=$!
    printf '%s %s\n' "$pid" "$(starttime "$pid")" > "$RUN/$name.pid"
    grep -qx "$name" "$RUN/order" 2>/dev/null || echo "$name" >> "$RUN/order"
}

group_alive() { # PGID
    ps -e -o pgid=,stat= | awk -v g="$1" '$1 == g && $2 !~ /^Z/ {f = 1} END {exit !f}'
}

stop() { # NAME [SECONDS until SIGKILL]
    local name=$1 limit=${2:-20} pid i
    if pid=$(pid_of "$name"); then
        kill -TERM "$pid" 2>/dev/null
        for ((i = 0; i < limit * 10; i++)); do
            pid_of "$name" >/dev/null || break
            sleep 0.1
        done
        if group_alive "$pid"; then
            kill -TERM -- "-$pid" 2>/dev/null
            sleep 0.5
            group_alive "$pid" && kill -KILL -- "-$pid" 2>/dev/null
        fi
    fi
    rm -f "$RUN/$name.pid"
    [ ! -f "$RUN/order" ] || sed -i "/^$name\$/d" "$RUN/order"
}

# A daemon that a service of ours started and recorded in a pid file of its own
# (dnsmasq, haproxy, radvd). WORD must occur in its command line.
stop_pidfile() { # FILE WORD
    local pid
    [ -s "$1" ] || return 0
    pid=$(tr -dc 0-9 < "$1")
    if [ -n "$pid" ] && tr '\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -q -- "$2"; then
        kill -TERM "$pid" 2>/dev/null
    fi
    rm -f "$1"
}

services() { [ ! -f "$RUN/order" ] || awk '!seen[$0]++' "$RUN/order"; }

memory_of_group() { # PGID: MB of PSS, shared pages counted in proportion
    local p total=0 kb
    for p in $(ps -e -o pgid=,pid= | awk -v g="$1" '$1 == g {print $2}'); do
        kb=$(awk '/^Pss:/ {print $2}' "/proc/$p/smaps_rollup" 2>/dev/null)
        total=$((total + ${kb:-0}))
    done
    echo $((total / 1024))
}

cluster_status() {
    local name pid bad=0
    printf '%-26s %-5s %8s %7s\n' SERVICE STATE PID PSS_MB
    for name in $(services); do
        if pid=$(pid_of "$name"); then
            printf '%-26s %-5s %8s %7s\n' "$name" up "$pid" "$(memory_of_group "$pid")"
        else
            printf '%-26s %-5s\n' "$name" DOWN; bad=1
        fi
    done
    return $bad
}

cluster_logs() {
    [ $# -ge 1 ] || { ls "$LOG"; return; }
    [ -f "$LOG/$1.log" ] || die "no log $LOG/$1.log; the logs are: $(ls "$LOG" | tr '\n' ' ')"
    if [ "${2:-}" = -f ]; then tail -n 50 -f "$LOG/$1.log"; else cat "$LOG/$1.log"; fi
}
