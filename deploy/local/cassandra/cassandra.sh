# Sourced by ../lib.sh: one Cassandra node.
# shellcheck shell=bash
# shellcheck disable=SC2154  # dir, here, artifacts and java are of lib.sh

cassandra_port="" cassandra_storage_port="" cassandra_secure=""

cassandra_decide() {
    decide cassandra cassandra_port "${CASSANDRA_PORT-}" CASSANDRA_PORT 19042
    decide cassandra cassandra_storage_port "${CASSANDRA_STORAGE_PORT-}" CASSANDRA_STORAGE_PORT 19070
    decide cassandra cassandra_secure "${secure-}" --secure ""
}

cassandra_where() { echo "127.0.0.1:$cassandra_port${cassandra_secure:+ (TLS, passwords)}"; }

cassandra_env() { echo "export CASSANDRA_NODES='127.0.0.1:$cassandra_port'"; }

# OPTIONS is answered by SUPPORTED; with passwords, the first user can log in, whom it makes after it listens.
cassandra_is_ready() {
    local -a bytes
    if [ -z "$cassandra_secure" ]; then
        read -r -a bytes <<<"$(ask "$cassandra_port" '\x04\x00\x00\x00\x05\x00\x00\x00\x00')"
        [ "${bytes[4]:-0}" = 6 ]
        return
    fi
    # STARTUP is answered by AUTHENTICATE, the name and password by AUTH_SUCCESS.
    local startup='\x04\x00\x00\x00\x01\x00\x00\x00\x16\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0'
    local login='\x04\x00\x00\x01\x0f\x00\x00\x00\x18\x00\x00\x00\x14\x00cassandra\x00cassandra'
    local answer
    # shellcheck disable=SC2059  # the bytes are the format
    answer="$({ printf "$startup"; sleep 1; printf "$login"; sleep 1; } 2>/dev/null |
        timeout 5 openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile "$dir/cassandra/ca.pem" \
            -connect "127.0.0.1:$cassandra_port" 2>/dev/null | od -An -v -tx1 | tr -d ' \n')" || return 1
    [[ "$answer" = *8400000110* ]]
}

start_cassandra() {
    local home="$dir/cassandra"
    free "CASSANDRA_PORT=$cassandra_port" "CASSANDRA_STORAGE_PORT=$cassandra_storage_port"
    # It installs a security manager, which later ones refuse.
    need_java cassandra 17
    fetch cassandra
    remember cassandra cassandra_port cassandra_storage_port cassandra_secure
    [ -z "$cassandra_secure" ] || secure_cassandra
    (umask 077 && write_cassandra >"$home/cassandra.yaml")
    MALLOC_ARENA_MAX=4 launch cassandra "$java" "@$here/cassandra/jvm.options" "-Djava.io.tmpdir=$home/tmp" \
        "-javaagent:$(echo "$artifacts"/cassandra/lib/jamm-*.jar)" "-Dcassandra.config=file://$home/cassandra.yaml" \
        "-Dcassandra.storagedir=$home" "-Dlogback.configurationFile=file://$here/cassandra/logback.xml" \
        -cp "$artifacts/cassandra/lib/*" org.apache.cassandra.service.CassandraDaemon
}

secure_cassandra() {
    local home="$dir/cassandra"
    certify "$home" node
    password "$home/keystore.password"
    (
        umask 077
        openssl pkcs12 -export -in "$home/node.pem" -inkey "$home/node.key" -certfile "$home/ca.pem" -name node \
            -passout "file:$home/keystore.password" -out "$home/node.p12"
    ) || fail "openssl could not make the keystore $home/node.p12"
}

write_cassandra() {
    local home="$dir/cassandra"
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
    [ -z "$cassandra_secure" ] || cat <<END
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
client_encryption_options:
  enabled: true
  optional: false
  keystore: $home/node.p12
  keystore_password: $(<"$home/keystore.password")
  store_type: PKCS12
END
}
