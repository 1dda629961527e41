# Sourced by up, down and server: real servers as plain processes on loopback.
# shellcheck shell=bash

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
# Artifacts are shared by all folders of data.
artifacts="${KILLICK_LOCAL_ARTIFACTS:-$root/target/local/artifacts}"
dir="${KILLICK_LOCAL:-$root/target/local}"
kafka_port="${KAFKA_PORT:-19092}"
kafka_controller_port="${KAFKA_CONTROLLER_PORT:-19093}"
kafka_sasl_port="${KAFKA_SASL_PORT:-19094}"
kafka_mtls_port="${KAFKA_MTLS_PORT:-19095}"
cassandra_port="${CASSANDRA_PORT:-19042}"
cassandra_storage_port="${CASSANDRA_STORAGE_PORT:-19070}"
kafka_secure="${secure-}" kafka_acl="${acl-}" cassandra_secure="${secure-}"

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

usage() {
    echo "$(basename "$0"): $*; see --help" >&2
    exit 2
}

# recall: what the first `up` of each server was told stands until its data are erased.
recall() {
    local name
    for name in kafka cassandra; do
        # shellcheck source=/dev/null
        [ ! -r "$dir/$name/settings" ] || . "$dir/$name/settings"
    done
}

# remember NAME VARIABLE…
remember() {
    local name="$1"
    shift
    [ -e "$dir/$name/settings" ] || declare -p "$@" | sed 's/^declare -- //' >"$dir/$name/settings"
}

# The comment at the head of the script that was called.
help() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
}

need() {
    for tool in java mvn; do
        command -v "$tool" >/dev/null || fail "'$tool' is missing: install Java 17 or newer and Maven"
    done
    local version
    version="$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)"
    [ "${version:-0}" -ge 17 ] || fail "java is version ${version:-unknown}: 17 or newer is needed"
}

# fetch NAME: the artifacts of a server, once. What is half there is not there.
fetch() {
    local to="$artifacts/$1"
    if [ -e "$to/complete" ] && cmp -s "$here/$1/pom.xml" "$to/complete"; then
        return
    fi
    need
    echo "fetching the artifacts of $1" >&2
    rm -rf "$to"
    mkdir -p "$to"
    # Where the pom is, Maven makes a folder: so not in the source tree.
    cp "$here/$1/pom.xml" "$to/pom.xml"
    mvn -q -B -f "$to/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$to/lib" >"$to/log" 2>&1 ||
        { tail -n 20 "$to/log" >&2; fail "Maven could not fetch $1; its log is $to/log"; }
    cp "$to/pom.xml" "$to/complete"
}

started() { ps -o lstart= -p "$1" 2>/dev/null; }

# is_running NAME: whether the process that we started is still that one.
is_running() {
    local pid since
    [ -r "$dir/$1/pid" ] || return 1
    { read -r pid && read -r since; } <"$dir/$1/pid" || return 1
    [ -n "$pid" ] && [ "$(started "$pid")" = "$since" ]
}

pid_of() { head -n 1 "$dir/$1/pid"; }

# launch NAME COMMAND…: starts a server that outlives this script.
launch() {
    local name="$1"
    shift
    (
        cd "$dir/$name" || exit
        exec setsid nohup "$@" >>"$dir/$name/log" 2>&1 </dev/null
    ) &
    local pid=$!
    # It becomes the server by exec: the id stays.
    sleep 0.1
    printf '%s\n%s\n' "$pid" "$(started "$pid")" >"$dir/$name/pid"
}

is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ask PORT REQUEST: the first bytes of the answer, as numbers.
ask() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1; printf "$1" >&3; dd bs=512 count=1 <&3 2>/dev/null' \
        "$1" "$2" 2>/dev/null | od -An -v -tu1 | tr -s ' \n' ' '
}

# Metadata (version 4, no topics) names at least one broker, and a controller.
kafka_is_ready() {
    local bytes
    read -r -a bytes <<<"$(ask "$kafka_port" '\x00\x00\x00\x0f\x00\x03\x00\x04\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00\x00')"
    [ "${#bytes[@]}" -gt 20 ] || return 1
    local brokers="${bytes[15]}" at=16
    [ "$brokers" -gt 0 ] || return 1
    for ((broker = 0; broker < brokers; broker++)); do
        # node id, host, port, no rack
        at=$((at + 4 + 2 + 256 * bytes[at + 4] + bytes[at + 5] + 4 + 2))
    done
    # The cluster's id, then the controller: −1 where there is none.
    at=$((at + 2 + 256 * bytes[at] + bytes[at + 1]))
    [ "${bytes[at]:-255}" -lt 128 ]
}

# OPTIONS is answered by SUPPORTED.
cassandra_is_ready() {
    local bytes request='\x04\x00\x00\x00\x05\x00\x00\x00\x00'
    if [ -n "$cassandra_secure" ]; then
        # shellcheck disable=SC2059  # the bytes are the format
        read -r -a bytes <<<"$( (printf "$request"; sleep 1) | timeout 3 openssl s_client -quiet \
            -connect "127.0.0.1:$cassandra_port" 2>/dev/null | head -c 9 | od -An -v -tu1)"
    else
        read -r -a bytes <<<"$(ask "$cassandra_port" "$request")"
    fi
    [ "${bytes[4]:-0}" = 6 ]
}

# await NAME SECONDS: until it answers.
await() {
    local end=$((SECONDS + $2))
    until "$1_is_ready"; do
        if ! is_running "$1"; then
            tail -n 15 "$dir/$1/log" >&2
            fail "$1 has ended; its log is $dir/$1/log"
        fi
        [ "$SECONDS" -lt "$end" ] || fail "$1 does not answer after $2 s; its log is $dir/$1/log"
        sleep 0.2
    done
}

start_kafka() {
    fetch kafka
    local home="$dir/kafka" lib="$artifacts/kafka/lib" port
    for port in "$kafka_port" "$kafka_controller_port"; do
        ! is_taken "$port" || fail "port $port is taken: stop what has it, or set KAFKA_PORT and KAFKA_CONTROLLER_PORT"
    done
    mkdir -p "$home"
    remember kafka kafka_port kafka_controller_port kafka_sasl_port kafka_mtls_port kafka_secure kafka_acl
    [ -e "$home/server.properties" ] || write_kafka
    local -a java=(java -cp "$lib/*" "-Dlog4j2.configurationFile=file:$here/kafka/log4j2.xml")
    if [ ! -e "$home/data/meta.properties" ]; then
        local -a scram=()
        [ ! -e "$home/password" ] ||
            scram=(--add-scram "SCRAM-SHA-512=[name=killick,password=$(cat "$home/password")]")
        "${java[@]}" kafka.tools.StorageTool format -t "S2lsbGlja0xvY2FsMDAwMA" -c "$home/server.properties" \
            --ignore-formatted ${scram[@]+"${scram[@]}"} >"$home/format.log" 2>&1 ||
            { cat "$home/format.log" >&2; fail "the folder $home/data cannot be formatted"; }
    fi
    local -a options=(-Xms256m -Xmx512m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError)
    # Quick to start; KAFKA_FULL_COMPILER=1 is for measurements.
    [ -n "${KAFKA_FULL_COMPILER-}" ] || options+=(-XX:TieredStopAtLevel=1)
    launch kafka "${java[@]}" "${options[@]}" kafka.Kafka "$home/server.properties"
    await kafka 60
}

write_kafka() {
    local home="$dir/kafka" listeners advertised map extra name bound shown
    listeners="LOCAL://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$kafka_controller_port"
    advertised="LOCAL://127.0.0.1:$kafka_port"
    map="LOCAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
    for extra in ${KAFKA_EXTRA_LISTENERS-}; do
        IFS=: read -r name bound shown <<<"$extra"
        listeners+=",$name://127.0.0.1:$bound"
        advertised+=",$name://127.0.0.1:$shown"
        map+=",$name:PLAINTEXT"
    done
    {
        if [ -n "$kafka_secure" ]; then
            secure_kafka
            listeners+=",SASL://127.0.0.1:$kafka_sasl_port,MTLS://127.0.0.1:$kafka_mtls_port"
            advertised+=",SASL://127.0.0.1:$kafka_sasl_port,MTLS://127.0.0.1:$kafka_mtls_port"
            map+=",SASL:SASL_SSL,MTLS:SSL"
        fi
        cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$kafka_controller_port
controller.listener.names=CONTROLLER
inter.broker.listener.name=LOCAL
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=$map
log.dirs=$home/data
auto.create.topics.enable=false
unclean.leader.election.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=8388608
END
        if [ -n "$kafka_acl" ]; then
            echo "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            echo "super.users=User:ANONYMOUS"
        fi
    } >"$home/server.properties.new"
    mv "$home/server.properties.new" "$home/server.properties"
}

# Certificates of our own authority, a user with a password, and what the broker is told of both.
secure_kafka() {
    local home="$dir/kafka" name
    command -v openssl >/dev/null || fail "'openssl' is missing: --secure makes certificates with it"
    [ -e "$home/password" ] || (umask 077 && openssl rand -hex 16 >"$home/password")
    if [ ! -e "$home/ca.pem" ]; then
        (
            umask 077
            cd "$home"
            openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=killick local authority" \
                -keyout ca.key -out ca.pem
            for name in broker client; do
                openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
                openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out "$name.pem" \
                    -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost")
            done
            openssl pkcs8 -topk8 -nocrypt -in broker.key -out broker.pk8
            cat broker.pk8 broker.pem ca.pem >broker.keystore.pem
        ) >"$home/openssl.log" 2>&1 || { tail -n 5 "$home/openssl.log" >&2; fail "no certificates could be made"; }
    fi
    cat <<END
ssl.keystore.type=PEM
ssl.keystore.location=$home/broker.keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$home/ca.pem
listener.name.mtls.ssl.client.auth=required
listener.name.sasl.ssl.client.auth=none
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
END
}

start_cassandra() {
    fetch cassandra
    local home="$dir/cassandra" port
    for port in "$cassandra_port" "$cassandra_storage_port"; do
        ! is_taken "$port" || fail "port $port is taken: stop what has it, or set CASSANDRA_PORT and CASSANDRA_STORAGE_PORT"
    done
    mkdir -p "$home"
    remember cassandra cassandra_port cassandra_storage_port cassandra_secure
    write_cassandra
    MALLOC_ARENA_MAX=4 launch cassandra java "@$here/cassandra/jvm.options" \
        "-javaagent:$(echo "$artifacts"/cassandra/lib/jamm-*.jar)" "-Dcassandra.config=file://$home/cassandra.yaml" \
        "-Dcassandra.storagedir=$home" "-Dlogback.configurationFile=file://$here/cassandra/logback.xml" \
        -cp "$artifacts/cassandra/lib/*" org.apache.cassandra.service.CassandraDaemon
    await cassandra 120
}

write_cassandra() {
    local home="$dir/cassandra"
    {
        cat <<END
cluster_name: killick-local
num_tokens: 1
initial_token: "0"
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: "127.0.0.1:$cassandra_storage_port"}]
auto_bootstrap: false
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: $cassandra_storage_port
ssl_storage_port: $((cassandra_storage_port + 1))
native_transport_port: $cassandra_port
data_file_directories: [$home/data]
commitlog_directory: $home/commitlog
hints_directory: $home/hints
saved_caches_directory: $home/saved_caches
cdc_raw_directory: $home/cdc_raw
# The default, periodic, acknowledges what a killed process loses.
commitlog_sync: group
commitlog_sync_group_window: 5ms
commitlog_segment_size: 16MiB
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
key_cache_size: 8MiB
counter_cache_size: 0MiB
concurrent_compactors: 1
auto_snapshot: false
disk_failure_policy: die
commit_failure_policy: die
END
        if [ -n "$cassandra_secure" ]; then
            secure_cassandra
        fi
    } >"$home/cassandra.yaml"
}

secure_cassandra() {
    local home="$dir/cassandra"
    command -v openssl >/dev/null || fail "'openssl' is missing: --secure makes certificates with it"
    [ -e "$home/password" ] || (umask 077 && openssl rand -hex 16 >"$home/password")
    if [ ! -e "$home/node.p12" ]; then
        (
            umask 077
            cd "$home"
            openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=killick local authority" \
                -keyout ca.key -out ca.pem
            openssl req -newkey rsa:2048 -nodes -subj "/CN=node" -keyout node.key -out node.csr
            openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out node.pem \
                -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost")
            openssl pkcs12 -export -in node.pem -inkey node.key -certfile ca.pem -name node \
                -passout "file:$home/password" -out node.p12
        ) >"$home/openssl.log" 2>&1 || { tail -n 5 "$home/openssl.log" >&2; fail "no certificates could be made"; }
    fi
    cat <<END
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
client_encryption_options:
  enabled: true
  optional: false
  keystore: $home/node.p12
  keystore_password: $(cat "$home/password")
  store_type: PKCS12
END
}

# stop NAME SIGNAL SECONDS: ends the process and waits until it is gone.
stop_server() {
    is_running "$1" || { rm -f "$dir/$1/pid"; return 0; }
    local pid end
    pid="$(pid_of "$1")"
    # A stopped process would not see it.
    kill -CONT "$pid" 2>/dev/null || true
    kill "-$2" "$pid" 2>/dev/null || true
    end=$((SECONDS + $3))
    while is_running "$1"; do
        if [ "$SECONDS" -ge "$end" ]; then
            kill -KILL "$pid" 2>/dev/null || true
        fi
        sleep 0.1
    done
    rm -f "$dir/$1/pid"
}

write_env() {
    {
        echo "export KILLICK_LOCAL='$dir'"
        is_running kafka && echo "export KAFKA_BROKERS='127.0.0.1:$kafka_port'"
        is_running kafka && [ -n "$kafka_secure" ] &&
            echo "export KAFKA_SASL_BROKERS='127.0.0.1:$kafka_sasl_port' KAFKA_MTLS_BROKERS='127.0.0.1:$kafka_mtls_port'"
        is_running cassandra && echo "export CASSANDRA_NODES='127.0.0.1:$cassandra_port'"
    } >"$dir/env" || true
}
