//! Real servers for one run: Kafka and Cassandra by `deploy/local`, and a development network in a process of its own.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail, ensure};

/// Ports are taken from here on: below those that the system gives to clients, so that none of them takes the place of a
/// server that is away.
const FIRST_PORT: u16 = 20_000;
/// How many there are.
const PORTS: u16 = 12_000;

/// So many ports on loopback that nobody listens on and that were not given before; they stay free as long as nobody
/// wants them by number.
///
/// # Errors
/// All are taken.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Other runs begin elsewhere.
    let from = (std::process::id() % u32::from(PORTS)) as u16 / 100 * 100;
    let next = || GIVEN.fetch_add(1, Ordering::Relaxed);
    let mut free =
        std::iter::repeat_with(next).take(usize::from(PORTS)).map(|step| FIRST_PORT + (from + step) % PORTS);
    let mut found = [0; N];
    for port in &mut found {
        let is_free = |port: &u16| TcpListener::bind(loopback(*port)).is_ok();
        *port = free.find(is_free).context("no port from 20000 to 31999 is free")?;
    }
    Ok(found)
}

/// A port on loopback.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What can happen to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It is told to end, and started again later.
    Stop,
    /// It is killed, and started again later.
    Kill,
    /// It is stopped in its tracks (SIGSTOP), and goes on later.
    Pause,
}

/// A listener of the broker, and the port that it tells its clients to come to.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub port: u16,
    /// Where clients have to connect: the proxy's.
    pub shown: u16,
}

/// Kafka and Cassandra in a folder of their own.
#[derive(Debug)]
pub struct Servers {
    scripts: PathBuf,
    folder: PathBuf,
    /// The broker's own port, that no proxy stands before.
    pub kafka: SocketAddr,
    /// The catalog's.
    pub cassandra: SocketAddr,
}

impl Servers {
    /// Starts both, with these listeners besides the broker's own.
    ///
    /// # Errors
    /// They do not start: with what they said.
    pub fn start(folder: &Path, listeners: &[Listener]) -> Result<Self> {
        let [kafka, controller, cassandra, storage, _beside_storage] = free_ports()?;
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local");
        let extra: Vec<_> =
            listeners.iter().map(|Listener { name, port, shown }| format!("{name}:{port}:{shown}")).collect();
        let servers = Self {
            scripts,
            folder: folder.to_owned(),
            kafka: loopback(kafka),
            cassandra: loopback(cassandra),
        };
        let mut up = servers.script("up");
        up.env("KAFKA_PORT", kafka.to_string())
            .env("KAFKA_CONTROLLER_PORT", controller.to_string())
            .env("CASSANDRA_PORT", cassandra.to_string())
            .env("CASSANDRA_STORAGE_PORT", storage.to_string())
            .env("KAFKA_EXTRA_LISTENERS", extra.join(" "));
        run(&mut up)?;
        Ok(servers)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        command.arg("--dir").arg(&self.folder);
        command
    }

    /// Lets it happen.
    ///
    /// # Errors
    /// The server does not run.
    pub fn take_away(&self, server: &str, outage: Outage) -> Result<()> {
        let what = match outage {
            Outage::Stop => "stop",
            Outage::Kill => "kill",
            Outage::Pause => "pause",
        };
        run(self.script("server").args([server, what])).map(drop)
    }

    /// Brings it back; it answers when this returns.
    ///
    /// # Errors
    /// It does not come back.
    pub fn bring_back(&self, server: &str, outage: Outage) -> Result<()> {
        let what = if outage == Outage::Pause { "resume" } else { "start" };
        run(self.script("server").args([server, what])).map(drop)
    }
}

impl Servers {
    /// Ends transactions that the broker forgot when it restarted; a line about each.
    ///
    /// # Errors
    /// The broker cannot be asked.
    pub fn end_hanging(&self) -> Result<Vec<String>> {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hanging"));
        let said = run(command.arg("--dir").arg(&self.folder))?;
        Ok(said.lines().map(str::to_owned).collect())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Err(error) = run(&mut self.script("down")) {
            eprintln!("the servers in {} are not down: {error:#}", self.folder.display());
        }
    }
}

/// Runs a script to its end; returns what it wrote to standard output.
fn run(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{command:?} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A development network in a process, which keeps what it has in a folder.
#[derive(Debug)]
pub struct Devnet {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Devnet {
    /// Starts a network that writes into `log`; `account` pays for anchors.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, folder: &Path, account: &str, log: PathBuf) -> Result<Self> {
        let [port] = free_ports()?;
        let folder = folder.to_str().context("the folder's path is no text")?;
        let address = loopback(port);
        let arguments =
            ["devnet", "--listen", &address.to_string(), "--folder", folder, "--account", account]
                .map(str::to_owned)
                .to_vec();
        let mut devnet = Self { program: program.to_owned(), arguments, log, process: None, address };
        devnet.bring_back()?;
        Ok(devnet)
    }

    /// Ends it, cleanly or not.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn take_away(&mut self, outage: Outage) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("the network does not run") };
        crate::process::signal(
            &process,
            match outage {
                Outage::Stop => rustix::process::Signal::TERM,
                Outage::Kill => rustix::process::Signal::KILL,
                Outage::Pause => {
                    crate::process::signal(&process, rustix::process::Signal::STOP);
                    self.process = Some(process);
                    return Ok(());
                }
            },
        );
        process.wait()?;
        Ok(())
    }

    /// Starts it again, or lets it go on; it answers soon.
    ///
    /// # Errors
    /// It does not start.
    pub fn bring_back(&mut self) -> Result<()> {
        if let Some(process) = &self.process {
            crate::process::signal(process, rustix::process::Signal::CONT);
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| self.log.display().to_string())?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().context("killick devnet does not start")?);
        Ok(())
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It is gone then, one way or another.
            let _ = (process.kill(), process.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_free_and_differ() {
        let [first, second]: [[u16; 10]; 2] = [free_ports().unwrap(), free_ports().unwrap()];
        let ports = [first, second].concat();
        let held: Vec<_> = ports.iter().map(|port| TcpListener::bind(loopback(*port)).unwrap()).collect();
        assert_eq!(held.len(), 20);
        assert!(ports.iter().all(|port| (20_000..32_000).contains(port)));
    }
}
