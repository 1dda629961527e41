# Sourced by up, down and server: real servers as plain processes on loopback.
# shellcheck shell=bash

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
# Artifacts are shared by all folders of data.
artifacts="${KILLICK_LOCAL_ARTIFACTS:-$root/target/local/artifacts}"
dir="${KILLICK_LOCAL:-$root/target/local}"

. "$here/kafka/kafka.sh"
. "$here/cassandra/cassandra.sh"

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

usage() {
    echo "$(basename "$0"): $*; see --help" >&2
    exit 2
}

# The comment at the head of the script that was called.
help() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
}

# open_dir: makes the folder's path absolute and reads what was remembered there.
open_dir() {
    local name
    if [ -d "$dir" ]; then dir="$(cd "$dir" && pwd)"; fi
    # They end in URLs, class paths and server settings, each with its own quoting.
    for name in "$dir" "$artifacts" "$here"; do
        [[ "$name" =~ ^[A-Za-z0-9._/+-]+$ ]] ||
            fail "'$name': the servers take only letters, digits and . _ / + - in a path; choose another one"
    done
    recall
}

# recall: what the first `up` of each server was told.
recall() {
    local name
    for name in kafka cassandra; do
        # shellcheck source=/dev/null
        [ ! -r "$dir/$name/settings" ] || . "$dir/$name/settings"
    done
}

# decide SERVER VARIABLE ASKED NAME DEFAULT: what a server was made with stands until its data are erased. NAME is what
# the user calls it.
decide() {
    local kept="${!2}"
    if [ ! -e "$dir/$1/settings" ]; then
        printf -v "$2" %s "${3:-$5}"
    elif [ -n "$3" ] && [ "$3" != "$kept" ]; then
        if [ -n "$kept" ]; then kept="with $4 $kept, not $3"; else kept="without $4"; fi
        fail "$1 in $dir was made $kept: leave it out, take another --dir, or erase first" \
            "(deploy/local/down $1 --erase --dir $dir)"
    fi
}

# remember SERVER VARIABLE…
remember() {
    local name="$1"
    shift
    declare -p "$@" | sed 's/^declare -- //' >"$dir/$name/settings.new"
    mv "$dir/$name/settings.new" "$dir/$name/settings"
}

# need_java SERVER [NEWEST]: sets `java`.
need_java() {
    local version
    java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
    command -v "$java" >/dev/null || fail "'$java' is missing: install Java 17 (Debian: openjdk-17-jre-headless), or set JAVA_HOME"
    version="$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)"
    [ "${version:-0}" -ge 17 ] || fail "'$java' is version ${version:-unknown}: $1 needs 17; install it or set JAVA_HOME"
    [ -z "${2-}" ] || [ "$version" -le "$2" ] || fail "'$java' is version $version: $1 runs on $2; install it and set JAVA_HOME"
}

# fetch SERVER: its artifacts, once. What is half there is not there.
fetch() {
    local to="$artifacts/$1"
    mkdir -p "$to"
    (
        flock 9
        ! cmp -s "$here/$1/pom.xml" "$to/complete" || exit 0
        command -v mvn >/dev/null || fail "'mvn' is missing: install Maven (Debian: maven); it fetches $1, once"
        echo "fetching the artifacts of $1" >&2
        rm -rf "${to:?}/lib" "$to/complete"
        # Where the pom is, Maven makes a folder: so not in the source tree.
        cp "$here/$1/pom.xml" "$to/pom.xml"
        mvn -q -B -f "$to/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$to/lib" >"$to/log" 2>&1 ||
            { tail -n 20 "$to/log" >&2; fail "Maven could not fetch $1; its log is $to/log"; }
        mv "$to/pom.xml" "$to/complete"
    ) 9<"$to"
}

# identity PID: says which process that id is, and nothing when there is none.
identity() {
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    # After the name, which may contain anything: state is the 1st word, start in ticks since boot the 20th.
    local -a words
    read -r -a words <<<"${stat##*) }"
    # A dead one that nobody has waited for still has an entry.
    [[ "${words[0]}" = [ZX] ]] || echo "$1 ${words[19]-} $(</proc/sys/kernel/random/boot_id)"
}

# is_running SERVER: whether the process that was started is still that one.
is_running() {
    local line
    read -r line 2>/dev/null <"$dir/$1/pid" || return 1
    [ -n "$line" ] && [ "$(identity "${line%% *}")" = "$line" ]
}

is_paused() { is_running "$1" && grep -q '^State:.T' "/proc/$(pid_of "$1")/status"; }

pid_of() {
    local pid rest
    read -r pid rest <"$dir/$1/pid" && echo "$pid"
}

# launch SERVER COMMAND…: starts a process that outlives this script. It becomes the server by exec, so its id stays.
launch() {
    local name="$1"
    shift
    rm -rf "${dir:?}/$name/tmp" "$dir/$name/pid"
    mkdir -p "$dir/$name/tmp"
    (
        cd "$dir/$name" || exit
        identity "$BASHPID" >pid
        exec setsid nohup "$@" >>log 2>&1 </dev/null 9<&-
    ) &
    # Before its id is there it looks as if it had ended.
    while [ ! -s "$dir/$name/pid" ] && kill -0 "$!" 2>/dev/null; do sleep 0.02; done
}

# free NAME=PORT…: refuses ports that are no port, or taken.
free() {
    local each port
    for each in "$@"; do
        port="${each#*=}"
        [[ "$port" =~ ^[1-9][0-9]{0,4}$ ]] && [ "$port" -le 65535 ] || fail "${each%%=*}: '$port' is not a port (1 to 65535)"
        ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null ||
            fail "port $port is taken: stop what has it ('ss -ltnp' names it), or choose another one by ${each%%=*}"
    done
}

# ask PORT REQUEST: the first bytes of the answer, as numbers.
ask() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1; printf "$1" >&3; dd bs=512 count=1 <&3 2>/dev/null' \
        "$1" "$2" 2>/dev/null | od -An -v -tu1 | tr -s ' \n' ' '
}

# start SERVER: with the data that it has; ready when it returns.
start() {
    local begun=$SECONDS
    (
        # Two at once would start two servers. The lock ends with this shell; the server does not have it.
        flock -w 300 9 || fail "another 'up' has been busy with $1 in $dir for five minutes"
        if is_paused "$1"; then fail "$1 is paused: deploy/local/server $1 resume --dir $dir"; fi
        if is_running "$1"; then
            await "$1" "$begun"
            echo "$1 runs already: $("$1_where"), process $(pid_of "$1")"
        else
            "start_$1"
            await "$1" "$begun"
            echo "$1 $("$1_where"), process $(pid_of "$1"), ready after $((SECONDS - begun)) s"
        fi
    ) 9<"$dir/$1"
}

# await SERVER SINCE: until it answers.
await() {
    until "$1_is_ready"; do
        if ! is_running "$1"; then
            tail -n 15 "$dir/$1/log" >&2 || true
            fail "$1 has ended at its start; its log is $dir/$1/log"
        fi
        [ $((SECONDS - $2)) -lt 180 ] || fail "$1 runs and does not answer after 180 s; its log is $dir/$1/log"
        sleep 0.2
    done
}

# end SERVER SIGNAL: ends the process and waits until it is gone; SIGKILL after 30 s.
end() {
    local pid since=$SECONDS
    if is_running "$1"; then
        pid="$(pid_of "$1")"
        kill "-$2" "$pid" 2>/dev/null || true
        # A paused process would not see it.
        kill -CONT "$pid" 2>/dev/null || true
        while is_running "$1"; do
            [ $((SECONDS - since)) -lt 30 ] || kill -KILL "$pid" 2>/dev/null || true
            sleep 0.1
        done
        echo "$1 is down, it was process $pid"
    fi
    rm -f "$dir/$1/pid"
}

# certify FOLDER NAME…: an authority (ca.pem) and a certificate for each name (NAME.key, NAME.pem), once.
certify() {
    local home="$1" name
    shift
    [ ! -e "$home/certified" ] || return 0
    command -v openssl >/dev/null || fail "'openssl' is missing: --secure makes certificates with it; install it"
    local -a new=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    (
        umask 077
        cd "$home" &&
            openssl req -x509 "${new[@]}" -days 3650 -subj "/CN=local authority" -keyout ca.key -out ca.pem || exit
        for name in "$@"; do
            openssl req "${new[@]}" -subj "/CN=$name" -keyout "$name.key" -out "$name.csr" &&
                openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out "$name.pem" \
                    -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost") || exit
        done
    ) >"$home/openssl.log" 2>&1 ||
        { tail -n 5 "$home/openssl.log" >&2; fail "openssl could not make the certificates in $home"; }
    touch "$home/certified"
}

# password FILE: a new one in that file unless it has one.
password() { [ -s "$1" ] || (umask 077 && openssl rand -hex 16 >"$1"); }

# write_env: what tests source, as of now; another `up` may have started the other server meanwhile.
write_env() {
    (
        flock 9
        recall
        echo "export KILLICK_LOCAL='$dir'" >"$dir/env.new"
        if is_running kafka; then kafka_env >>"$dir/env.new"; fi
        if is_running cassandra; then cassandra_env >>"$dir/env.new"; fi
        mv "$dir/env.new" "$dir/env"
    ) 9<"$dir"
}
