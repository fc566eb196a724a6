# What the person at the terminal sees: numbered steps with the time since the start.

T0=$(date +%s)
STEP=0
elapsed() { printf '%d:%02d' $((($(date +%s) - T0) / 60)) $((($(date +%s) - T0) % 60)); }
step() { STEP=$((STEP + 1)); printf '[%s] %2d. %s\n' "$(elapsed)" $STEP "$*"; }
note() { printf '[%s]     %s\n' "$(elapsed)" "$*"; }
die() { printf 'cluster: %s\n' "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "this needs root: run it with sudo"; }

# fail_with_log WHAT FILE: the last lines usually say it.
fail_with_log() {
    printf 'cluster: %s\nThe end of %s:\n' "$1" "$2" >&2
    tail -n 15 "$2" >&2
    exit 1
}

wait_for() { # SECONDS WHAT COMMAND...
    local limit=$1 what=$2 begin=$SECONDS; shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $((SECONDS - begin)) -ge "$limit" ]; then
            note "$what: not ready after $limit s"
            return 1
        fi
        sleep 0.3
    done
}

http_ok() { # URL: any answer below 500 will do
    local code
    code=$(curl -s -o /dev/null -m 20 -w '%{http_code}' "$1") || return 1
    [ "$code" -ge 200 ] && [ "$code" -lt 500 ]
}

once() { # MARKER COMMAND...: run it only if it has not succeeded before
    local marker=$DONE/$1; shift
    [ -e "$marker" ] && return 0
    "$@" && touch "$marker"
}
