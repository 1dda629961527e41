//! The catalog on ScyllaDB or Apache Cassandra.
