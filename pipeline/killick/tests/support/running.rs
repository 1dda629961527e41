//! The program at work, and topics of its brokers.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::{brokers, command};

pub fn admin(act: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions)) {
    let admin = ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(act(&admin, &options));
}

pub fn make_topic(name: &str) {
    admin(async |admin, options| {
        let topic = NewTopic::new(name, 2, TopicReplication::Fixed(1))
            .set("message.timestamp.type", "LogAppendTime")
            .set("retention.ms", "172800000");
        assert!(admin.create_topics([&topic], options).await.unwrap().iter().all(Result::is_ok));
    });
}

pub fn produce(topic: &str, events: usize) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers()).set("acks", "all").create().unwrap();
    for number in 0..events {
        let value = format!("{{\"id\":\"{number}\",\"value\":{}}}", number * number);
        producer.send(BaseRecord::<str, str>::to(topic).payload(&value)).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// A process that is killed if the test ends before it.
pub struct Running {
    pub child: Child,
    says: BufReader<PipeReader>,
}

impl Running {
    pub fn start(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::fed(args, variables, Stdio::null())
    }

    /// With something to read on its standard input.
    pub fn fed(args: &[&str], variables: &[(&str, &str)], input: impl Into<Stdio>) -> Self {
        let mut command = command(args);
        command.stdin(input);
        // Both into one pipe.
        let (from, to) = std::io::pipe().unwrap();
        command.envs(variables.iter().copied()).stdout(to.try_clone().unwrap()).stderr(to);
        Self { child: command.spawn().unwrap(), says: BufReader::new(from) }
    }

    /// Reads what it says until a line has this in it.
    pub fn says(&mut self, what: &str) -> String {
        let mut seen = String::new();
        for line in self.says.by_ref().lines() {
            let line = line.unwrap();
            if line.contains(what) {
                return line;
            }
            seen += &(line + "\n");
        }
        panic!("it ended without {what:?}: {seen}");
    }

    /// Tells it to stop; it has to end well.
    pub fn ends(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        // What it says meanwhile is read, or it would wait for us.
        std::io::copy(&mut self.says, &mut std::io::sink()).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of the admin port in the line that says that it is open.
pub fn address(line: &str) -> String {
    let (_, after) = line.split_once("127.0.0.1:").unwrap();
    let port: String = after.chars().take_while(char::is_ascii_digit).collect();
    format!("127.0.0.1:{port}")
}
