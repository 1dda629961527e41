# Sourced by ../lib.sh: one Kafka node, broker and controller.
# shellcheck shell=bash
# shellcheck disable=SC2154  # dir, here, artifacts and java are of lib.sh

kafka_port="" kafka_controller_port="" kafka_sasl_port="" kafka_mtls_port="" kafka_extra="" kafka_secure="" kafka_acl=""

kafka_decide() {
    decide kafka kafka_port "${KAFKA_PORT-}" KAFKA_PORT 19092
    decide kafka kafka_controller_port "${KAFKA_CONTROLLER_PORT-}" KAFKA_CONTROLLER_PORT 19093
    decide kafka kafka_sasl_port "${KAFKA_SASL_PORT-}" KAFKA_SASL_PORT 19094
    decide kafka kafka_mtls_port "${KAFKA_MTLS_PORT-}" KAFKA_MTLS_PORT 19095
    decide kafka kafka_extra "${KAFKA_EXTRA_LISTENERS-}" KAFKA_EXTRA_LISTENERS ""
    # An ACL needs somebody whom it can refuse.
    decide kafka kafka_secure "${secure:-${acl-}}" --secure ""
    decide kafka kafka_acl "${acl-}" --acl ""
}

kafka_where() {
    echo "127.0.0.1:$kafka_port${kafka_secure:+, SCRAM 127.0.0.1:$kafka_sasl_port, mutual TLS 127.0.0.1:$kafka_mtls_port}"
}

kafka_env() {
    echo "export KAFKA_BROKERS='127.0.0.1:$kafka_port'"
    [ -n "$kafka_secure" ] || return 0
    echo "export KAFKA_SASL_BROKERS='127.0.0.1:$kafka_sasl_port'"
    echo "export KAFKA_MTLS_BROKERS='127.0.0.1:$kafka_mtls_port'"
}

# Metadata (version 4, no topics) names at least one broker, and a controller. The port alone opens earlier.
kafka_is_ready() {
    local -a bytes
    read -r -a bytes <<<"$(ask "$kafka_port" '\x00\x00\x00\x0f\x00\x03\x00\x04\x00\x00\x00\x01\xff\xff\x00\x00\x00\x00\x00')"
    [ "${#bytes[@]}" -gt 20 ] || return 1
    local brokers="${bytes[15]}" at=16 broker
    [ "$brokers" -gt 0 ] || return 1
    for ((broker = 0; broker < brokers; broker++)); do
        # node id, host, port, no rack
        at=$((at + 4 + 2 + 256 * bytes[at + 4] + bytes[at + 5] + 4 + 2))
    done
    # The cluster's id, then the controller: −1 where there is none.
    at=$((at + 2 + 256 * bytes[at] + bytes[at + 1]))
    [ "${bytes[at]:-255}" -lt 128 ]
}

start_kafka() {
    local home="$dir/kafka" extra user
    local -a ports=("KAFKA_PORT=$kafka_port" "KAFKA_CONTROLLER_PORT=$kafka_controller_port")
    [ -z "$kafka_secure" ] || ports+=("KAFKA_SASL_PORT=$kafka_sasl_port" "KAFKA_MTLS_PORT=$kafka_mtls_port")
    for extra in $kafka_extra; do
        [[ "$extra" =~ ^[A-Z][A-Z0-9]*:([0-9]+):[0-9]+$ ]] ||
            fail "KAFKA_EXTRA_LISTENERS: '$extra' is not NAME:PORT:SHOWN (a name is of capital letters and digits)"
        ports+=("KAFKA_EXTRA_LISTENERS=${BASH_REMATCH[1]}")
    done
    free "${ports[@]}"
    need_java kafka
    fetch kafka
    remember kafka kafka_port kafka_controller_port kafka_sasl_port kafka_mtls_port kafka_extra kafka_secure kafka_acl
    [ -z "$kafka_secure" ] || secure_kafka
    write_kafka >"$home/server.properties"
    mkdir -p "$home/tmp"
    local -a command=("$java" -cp "$artifacts/kafka/lib/*" "-Djava.io.tmpdir=$home/tmp" -XX:-UsePerfData
        "-Dlog4j2.configurationFile=file:$here/kafka/log4j2.xml" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError)
    if [ ! -e "$home/data/meta.properties" ]; then
        local -a users=()
        if [ -n "$kafka_secure" ]; then
            for user in killick admin; do
                users+=(--add-scram "SCRAM-SHA-512=[name=$user,password=$(<"$home/$user.password")]")
            done
        fi
        "${command[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format -t "S2lsbGlja0xvY2FsMDAwMA" \
            -c "$home/server.properties" --ignore-formatted ${users[@]+"${users[@]}"} >"$home/format.log" 2>&1 ||
            { tail -n 15 "$home/format.log" >&2; fail "Kafka could not format $home/data"; }
    fi
    command+=(-Xms256m -Xmx512m)
    # Half the time to start. Not for measurements.
    [ -n "${KAFKA_FULL_COMPILER-}" ] || command+=(-XX:TieredStopAtLevel=1)
    launch kafka "${command[@]}" kafka.Kafka "$home/server.properties"
}

# What only --secure needs: certificates of our own authority, and users with passwords.
secure_kafka() {
    local home="$dir/kafka"
    certify "$home" broker client
    password "$home/killick.password"
    password "$home/admin.password"
    (umask 077 && cat "$home/broker.key" "$home/broker.pem" "$home/ca.pem" >"$home/broker.keystore.pem")
}

write_kafka() {
    local home="$dir/kafka" listeners advertised map extra name bound shown
    advertised="LOCAL://127.0.0.1:$kafka_port"
    listeners="$advertised,CONTROLLER://127.0.0.1:$kafka_controller_port"
    map="LOCAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
    for extra in $kafka_extra; do
        IFS=: read -r name bound shown <<<"$extra"
        listeners+=",$name://127.0.0.1:$bound"
        advertised+=",$name://127.0.0.1:$shown"
        map+=",$name:PLAINTEXT"
    done
    if [ -n "$kafka_secure" ]; then
        listeners+=",SASL://127.0.0.1:$kafka_sasl_port,MTLS://127.0.0.1:$kafka_mtls_port"
        advertised+=",SASL://127.0.0.1:$kafka_sasl_port,MTLS://127.0.0.1:$kafka_mtls_port"
        map+=",SASL:SASL_SSL,MTLS:SSL"
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
    fi
    if [ -n "$kafka_acl" ]; then
        cat <<END
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS;User:admin
END
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
# One node: one replica of everything.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# Quick, for tests: joins, timed out transactions, a start after kill -9, retention and compaction.
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=8388608
END
}
