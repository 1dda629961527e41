//! Real readings of this machine: its counters, as Linux shows them in `/proc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{Event, time};
use killick_stages::record::Micros;

/// The type of readings.
pub const READING: &str = "reading";

/// Longest sleep between two looks at `stop`.
const NAP: Duration = Duration::from_millis(50);

/// Devices of one machine at most: beyond them disks and network interfaces are left out.
const MAX_DEVICES: usize = 32;

/// Why this machine cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("this machine's readings come from {}, which cannot be read ({why}); give --input FILE instead", .path.display())]
pub struct MachineError {
    path: PathBuf,
    why: String,
}

/// What can be read of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Device {
    Cpu,
    Memory,
    Disk(String),
    Net(String),
}

impl Device {
    fn source(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Memory => "memory".to_owned(),
            Self::Disk(name) => format!("disk/{name}"),
            Self::Net(name) => format!("net/{name}"),
        }
    }

    fn file(&self) -> &'static str {
        match self {
            Self::Cpu => "stat",
            Self::Memory => "meminfo",
            Self::Disk(_) => "diskstats",
            Self::Net(_) => "net/dev",
        }
    }

    fn read(&self, file: &str) -> Option<Value> {
        match self {
            Self::Cpu => cpu(file),
            Self::Memory => memory(file),
            Self::Disk(name) => disk(file, name),
            Self::Net(name) => net(file, name),
        }
    }
}

/// Readings of this machine's devices in turn, at a rate.
pub struct Machine {
    proc: PathBuf,
    devices: Vec<Device>,
    turn: usize,
    /// Times, which are ids too, ascend.
    last: Micros,
}

impl Machine {
    /// The devices of this machine.
    ///
    /// # Errors
    /// [`MachineError`] where there is no `/proc`.
    pub fn here() -> Result<Self, MachineError> {
        Self::at(Path::new("/proc"))
    }

    fn at(proc: &Path) -> Result<Self, MachineError> {
        let mut devices = vec![Device::Cpu, Device::Memory];
        let names = |file: &str, name: fn(&str) -> Option<&str>| -> Vec<String> {
            let text = fs::read_to_string(proc.join(file)).unwrap_or_default();
            text.lines().filter_map(name).map(str::to_owned).collect()
        };
        devices.extend(names("diskstats", disk_name).into_iter().map(Device::Disk));
        devices.extend(names("net/dev", net_name).into_iter().map(Device::Net));
        devices.truncate(MAX_DEVICES);
        let mut machine = Self { proc: proc.to_owned(), devices, turn: 0, last: 0 };
        // CPU and memory are everywhere where `/proc` is Linux's.
        for device in [Device::Cpu, Device::Memory] {
            machine.read(&device)?;
        }
        let readable = std::mem::take(&mut machine.devices);
        machine.devices = readable.into_iter().filter(|device| machine.read(device).is_ok()).collect();
        Ok(machine)
    }

    /// The devices: the sources of the readings.
    pub fn sources(&self) -> Vec<String> {
        self.devices.iter().map(Device::source).collect()
    }

    /// Reads the next device.
    ///
    /// # Errors
    /// [`MachineError`] if it cannot be read any more, as when a disk was taken away.
    pub fn reading(&mut self) -> Result<Event, MachineError> {
        let device = self.devices[self.turn % self.devices.len()].clone();
        self.turn += 1;
        let payload = self.read(&device)?.to_string().into();
        self.last = time::now().max(self.last + 1);
        let event = Event {
            line: 0,
            source: device.source(),
            id: self.last.to_string(),
            time: self.last,
            kind: READING.to_owned(),
            payload,
        };
        Ok(event)
    }

    /// Readings at `rate` a second, until there are `limit` of them or `stop`.
    pub fn paced(self, rate: f64, limit: Option<u64>, stop: CancellationToken) -> Paced {
        Paced { machine: self, rate, limit, stop, begun: Instant::now(), given: 0 }
    }

    fn read(&self, device: &Device) -> Result<Value, MachineError> {
        let path = self.proc.join(device.file());
        let failed = |why: String| MachineError { path: path.clone(), why };
        let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        device.read(&text).ok_or_else(|| failed(format!("no counters of {} in it", device.source())))
    }
}

/// Readings at a rate: an iterator that waits.
pub struct Paced {
    machine: Machine,
    /// Readings a second; above 0.
    rate: f64,
    limit: Option<u64>,
    stop: CancellationToken,
    begun: Instant,
    given: u64,
}

impl Iterator for Paced {
    type Item = Result<Event, MachineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.limit.is_some_and(|limit| self.given >= limit) {
            return None;
        }
        // From the beginning, so that lost time is made up for and the rate holds.
        let due = Duration::try_from_secs_f64(self.given as f64 / self.rate).unwrap_or(Duration::MAX);
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            match due.saturating_sub(self.begun.elapsed()) {
                Duration::ZERO => break,
                left => thread::sleep(left.min(NAP)),
            }
        }
        self.given += 1;
        Some(self.machine.reading())
    }
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, u64)>) -> Value {
    Value::Object(
        members.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect::<Map<_, _>>(),
    )
}

/// The time that all processors together have spent, in clock ticks.
fn cpu(stat: &str) -> Option<Value> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|tick| tick.parse().ok()).collect();
    let names = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    (ticks.len() >= 4).then(|| object(names.into_iter().zip(ticks)))
}

/// Memory in KiB.
fn memory(meminfo: &str) -> Option<Value> {
    let value = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let names = [
        ("total_kib", "MemTotal"),
        ("free_kib", "MemFree"),
        ("available_kib", "MemAvailable"),
        ("cached_kib", "Cached"),
        ("swap_free_kib", "SwapFree"),
    ];
    value("MemTotal")?;
    Some(object(names.into_iter().filter_map(|(ours, theirs)| Some((ours, value(theirs)?)))))
}

/// The name of a disk that is one: neither memory nor a loop.
fn disk_name(line: &str) -> Option<&str> {
    let name = line.split_ascii_whitespace().nth(2)?;
    let skipped = ["loop", "ram", "zram"].iter().any(|prefix| name.starts_with(prefix));
    (!skipped).then_some(name)
}

/// What a disk has read and written, in sectors of 512 bytes.
fn disk(diskstats: &str, name: &str) -> Option<Value> {
    let fields: Vec<&str> = diskstats
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&name))?;
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(object([
        ("reads", field(3)?),
        ("read_sectors", field(5)?),
        ("writes", field(7)?),
        ("written_sectors", field(9)?),
        ("busy_ms", field(12)?),
    ]))
}

fn net_name(line: &str) -> Option<&str> {
    Some(line.split_once(':')?.0.trim())
}

/// What an interface has received and sent.
fn net(dev: &str, name: &str) -> Option<Value> {
    let counters = dev.lines().find_map(|line| {
        let (found, counters) = line.split_once(':')?;
        (found.trim() == name).then_some(counters)
    })?;
    let fields: Vec<u64> = counters.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let field = |index: usize| fields.get(index).copied();
    Some(object([
        ("received_bytes", field(0)?),
        ("received_packets", field(1)?),
        ("sent_bytes", field(8)?),
        ("sent_packets", field(9)?),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    const STAT: (&str, &str) = ("stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n");
    const MEMORY: (&str, &str) = ("meminfo", "MemTotal:  100 kB\nMemFree:  40 kB\nCached: 7 kB\n");
    const DISKS: (&str, &str) = (
        "diskstats",
        " 7 0 loop0 1 0 2 0 3 0 4 0 0 5 0\n 254 0 vda 11 0 22 0 33 0 44 0 0 55 0\n 254 1 torn 1\n",
    );
    const NET: (&str, &str) = (
        "net/dev",
        "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n",
    );

    #[test]
    fn each_device_is_a_source_with_its_counters() {
        let folder = fake(&[STAT, MEMORY, DISKS, NET]);
        let mut machine = Machine::at(folder.path()).unwrap();
        assert_eq!(machine.sources(), ["cpu", "memory", "disk/vda", "net/lo"]);
        let payloads: Vec<String> =
            (0..4).map(|_| String::from_utf8(machine.reading().unwrap().payload.to_vec()).unwrap()).collect();
        assert_eq!(
            payloads[0],
            r#"{"idle":4,"iowait":5,"irq":6,"nice":2,"softirq":7,"steal":8,"system":3,"user":1}"#
        );
        assert_eq!(payloads[1], r#"{"cached_kib":7,"free_kib":40,"total_kib":100}"#);
        assert_eq!(
            payloads[2],
            r#"{"busy_ms":55,"read_sectors":22,"reads":11,"writes":33,"written_sectors":44}"#
        );
        assert_eq!(
            payloads[3],
            r#"{"received_bytes":1,"received_packets":2,"sent_bytes":3,"sent_packets":4}"#
        );
    }

    #[test]
    fn no_two_readings_have_one_id_and_the_limit_holds() {
        let folder = fake(&[STAT, MEMORY]);
        let machine = Machine::at(folder.path()).unwrap();
        let events: Vec<Event> =
            machine.paced(1e9, Some(500), CancellationToken::new()).map(Result::unwrap).collect();
        let ids: std::collections::BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!((events.len(), ids.len()), (500, 500));
        assert!(events.iter().all(|event| event.statement("any").check().is_ok()));
    }

    #[test]
    fn readings_keep_their_rate_and_end_at_a_stop() {
        let folder = fake(&[STAT, MEMORY]);
        let stop = CancellationToken::new();
        let begun = Instant::now();
        let mut paced = Machine::at(folder.path()).unwrap().paced(100.0, None, stop.clone());
        assert_eq!(paced.by_ref().take(11).count(), 11);
        assert!(begun.elapsed() >= Duration::from_millis(100));
        stop.cancel();
        assert!(paced.next().is_none());
    }

    #[test]
    fn a_machine_without_proc_says_so() {
        let folder = fake(&[]);
        let error = Machine::at(folder.path()).err().unwrap().to_string();
        assert!(error.contains("stat") && error.contains("--input FILE"), "{error}");
        assert!(Machine::at(fake(&[("stat", "nonsense"), MEMORY]).path()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_can_be_read() {
        let mut machine = Machine::here().unwrap();
        let sources = machine.sources();
        assert!(sources.len() >= 2);
        for source in sources {
            let event = machine.reading().unwrap();
            assert_eq!((event.source, event.payload[0]), (source, b'{'));
        }
    }
}
