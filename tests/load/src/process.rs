//! Processes: what they use, and that they end with us.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(60);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(10);

/// CPU time of all threads of a process since it began, user and system; in steps of the kernel's clock, 10 ms as a rule.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("process {pid} is gone: {path}"))?;
    // After the name, which may hold anything: the state is the first word, user and system time the 12th and 13th.
    let words = stat.rsplit_once(')').map_or("", |(_, words)| words).split_ascii_whitespace();
    let ticks: Vec<u64> = words.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    ensure!(ticks.len() == 2, "{path} is not what proc(5) says");
    Ok(Duration::from_secs_f64(
        ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// The most memory that a process had at a time, in bytes.
///
/// # Errors
/// There is no such process.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("process {pid} is gone: {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).with_context(|| path.clone())?;
    let kilobytes = line.trim().strip_suffix(" kB").with_context(|| path.clone())?;
    Ok(kilobytes.parse::<u64>()? * 1_024)
}

/// CPU time that the whole machine spent at work since it began, whoever for.
///
/// # Errors
/// The kernel does not say.
pub fn machine_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let words = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat")?;
    let ticks: Vec<u64> = words.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // All but the 4th and 5th, idle, and guests' time, which is in user time already.
    let busy: u64 =
        ticks.iter().take(8).enumerate().filter(|(at, _)| ![3, 4].contains(at)).map(|(_, t)| t).sum();
    Ok(Duration::from_secs_f64(busy as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// A process of ours; it is ended when this is dropped.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a process; what it says goes to `NAME.log` and `NAME.out` in a folder.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(command: &mut Command, folder: &Path, name: &str) -> Result<Self> {
        let (log, out) = (folder.join(format!("{name}.log")), folder.join(format!("{name}.out")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).with_context(|| out.display().to_string())?)
            .stderr(File::create(&log).with_context(|| log.display().to_string())?)
            .spawn()
            .with_context(|| format!("{} does not start", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it writes what it has to say.
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// What it has written to standard error.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log(&self) -> Result<String> {
        read(&self.log)
    }

    /// What it has written to standard output.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn output(&self) -> Result<String> {
        read(&self.log.with_extension("out"))
    }

    /// That it has not ended.
    ///
    /// # Errors
    /// It has.
    pub fn expect_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.last_words()),
        }
    }

    /// Lets it stand still.
    ///
    /// # Errors
    /// It is gone.
    pub fn pause(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::STOP)?)
    }

    /// Lets it go on, if it stands still.
    ///
    /// # Errors
    /// It is gone.
    pub fn resume(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::CONT)?)
    }

    /// Waits for its end, which has to be good, and returns the CPU time of its life.
    ///
    /// # Errors
    /// It fails, or does not end in time.
    pub fn finish(mut self, patience: Duration) -> Result<Duration> {
        let pid = Pid::from_child(&self.child);
        let begun = Instant::now();
        // It is looked at once more before it is gone.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(pid), look)?.is_none() {
            ensure!(begun.elapsed() < patience, "{} has not ended after {patience:?}", self.name);
            sleep(LOOK);
        }
        let cpu = cpu(self.id())?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}:\n{}", self.name, self.last_words());
        Ok(cpu)
    }

    /// Tells it to end, and waits until it has.
    ///
    /// # Errors
    /// It fails, or does not end in time.
    pub fn stop(self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.finish(GRACE).map(drop)
    }

    fn last_words(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(8).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("{}\nits log is {}", lines.join("\n"), self.log.display())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever has ended stays known by its id until it is waited for.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            // Who stands still would not see it.
            let _ = self.resume();
            let begun = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < GRACE / 4 {
                sleep(LOOK);
            }
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_cpu_and_memory() {
        let own = std::process::id();
        let begun = (cpu(own).unwrap(), machine_cpu().unwrap());
        let since = Instant::now();
        while cpu(own).unwrap() < begun.0 + Duration::from_millis(100) {
            assert!(since.elapsed() < Duration::from_secs(60));
        }
        assert!(machine_cpu().unwrap() >= begun.1 + Duration::from_millis(80));
        assert!(peak_memory(own).unwrap() > 1 << 20);
    }

    #[test]
    fn the_cpu_of_a_process_that_has_ended_is_known_and_a_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let shell = |script: &str| {
            Running::start(Command::new("sh").args(["-c", script]), folder.path(), "shell").unwrap()
        };
        let busy = shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done");
        assert!(busy.finish(GRACE).unwrap() >= Duration::from_millis(10));
        let failed = shell("echo the reason >&2; exit 3").finish(GRACE).unwrap_err().to_string();
        assert!(failed.contains("the reason") && failed.contains("3"), "{failed}");
        let mut sleeper = shell("sleep 600");
        sleeper.expect_alive().unwrap();
        drop(sleeper);
    }
}
