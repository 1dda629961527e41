//! What a verification found, for people: what a receipt proves, and what it does not.

use std::io::{self, Write};

use killick_proof::report::{Device, Level, Report};

use super::time::Time;
use super::{Line, Status, missing};

/// Receipts up to which each has its line; of more, only those that are not as they should be.
const EACH: usize = 20;

/// Counts of all receipts.
pub(super) struct Summary {
    wanted: Level,
    receipts: usize,
    /// By [`Status`].
    counts: [usize; 4],
    worst: Status,
    /// Receipts whose payload was compared.
    payloads: usize,
    /// The oldest and the newest time by which events existed.
    not_after: Option<(i64, i64)>,
}

impl Summary {
    pub(super) fn new(wanted: Level, receipts: usize) -> Self {
        Self { wanted, receipts, counts: [0; 4], worst: Status::Reached, payloads: 0, not_after: None }
    }

    pub(super) fn count(&mut self, line: &Line<'_>) {
        self.counts[line.status as usize] += 1;
        self.worst = self.worst.max(line.status);
        self.payloads += usize::from(line.report.payload_matches);
        if let (Some(time), Status::Reached) = (line.report.not_after, line.status) {
            let (oldest, newest) = self.not_after.unwrap_or((time, time));
            self.not_after = Some((oldest.min(time), newest.max(time)));
        }
    }

    pub(super) fn worst(&self) -> Status {
        self.worst
    }

    /// Whether a receipt has a line of its own.
    pub(super) fn is_worth_saying(&self, line: &Line<'_>) -> bool {
        self.receipts <= EACH || line.status != Status::Reached
    }

    /// Writes what all receipts prove together, where there are several.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.receipts == 1 {
            return Ok(());
        }
        let [reached, short, failed, wrong] = self.counts;
        let all = self.receipts;
        writeln!(
            out,
            "\n{all} receipts: {reached} {}, {short} cannot be decided, {wrong} wrong, {failed} unreadable",
            self.wanted
        )?;
        writeln!(out, "payloads compared: {}", self.payloads)?;
        if let Some((oldest, newest)) = self.not_after {
            let times = match oldest == newest {
                true => Time(oldest).to_string(),
                false => format!("its time between {} and {}", Time(oldest), Time(newest)),
            };
            writeln!(
                out,
                "\nProven: each of the {reached} events existed no later than {times}, and has not changed since."
            )?;
        }
        if reached > 0 {
            write_limits(out, self.wanted)?;
        }
        Ok(())
    }
}

/// Writes what is known about one receipt: in full where it is the only one.
pub(super) fn write(out: &mut impl Write, line: &Line<'_>, receipts: usize) -> io::Result<()> {
    let report = line.report;
    writeln!(out, "{}: {}", shown(line.file), headline(line))?;
    if receipts > 1 {
        return Ok(());
    }
    write_facts(out, report)?;
    if let Some(why) = missing(line).filter(|_| line.unread.is_none() && report.wrong().is_none()) {
        writeln!(out, "  missing   {}", shown(&why))?;
    }
    match report.wrong() {
        Some(_) => writeln!(out, "\nA wrong receipt proves nothing."),
        None if line.unread.is_some() => Ok(()),
        None => write_meaning(out, report),
    }
}

fn headline(line: &Line<'_>) -> String {
    let report = line.report;
    if let Some(why) = line.unread {
        return format!("cannot be read: {}", shown(why));
    }
    if let Some(wrong) = report.wrong() {
        return format!("WRONG: {}", shown(&wrong.to_string()));
    }
    let device = report.device.map_or_else(String::new, |device| format!(", device {device}"));
    let time = report.not_after.map_or_else(String::new, |time| format!(", existed by {}", Time(time)));
    let rest = match missing(line) {
        Some(why) if line.status != Status::Reached => format!("; {}", shown(&why)),
        _ => String::new(),
    };
    format!("{}{device}{time}{rest}", report.level)
}

fn write_facts(out: &mut impl Write, report: &Report) -> io::Result<()> {
    if let Some(event) = &report.event {
        let name = format!("{} / {} / {}", event.tenant, event.source, event.id);
        writeln!(out, "  event     {}", shown(&name))?;
    }
    if let Some(device) = report.device {
        let about = match device {
            Device::Valid => "valid: the trust file lists its key for this tenant and source",
            Device::UnknownKey => {
                "unknown key: signed, but the trust file does not list the key for this device and time"
            }
            Device::Unsigned => "unsigned: no device stands behind the event",
        };
        writeln!(out, "  device    {about}")?;
        let payload = if report.payload_matches { "matches its digest" } else { "not compared" };
        writeln!(out, "  payload   {payload}")?;
    }
    if let Some(block) = &report.block {
        let network = shown(&block.network);
        writeln!(out, "  block     {} of chain {} of {network}, {}", block.height, block.chain, block.hash)?;
    }
    if let Some(work) = report.work_above {
        writeln!(out, "  work      {work} times that of the trust file's cut is above the block")?;
    }
    if let Some(claimed) = report.claimed {
        writeln!(out, "  claimed   {} by the device", Time(claimed))?;
    }
    if let Some((first, last)) = report.logged {
        writeln!(out, "  claimed   {} to {} by the log", Time(first), Time(last))?;
    }
    Ok(())
}

fn write_meaning(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out)?;
    let proven = match (report.level, report.not_after) {
        (Level::None, _) => return writeln!(out, "Nothing is proven."),
        (Level::Trusted, Some(time)) if report.work_above.is_some() => format!(
            "Proven by work alone: the event existed no later than {}, unless somebody did all the work above the block to forge it, and has not changed since.",
            Time(time)
        ),
        (Level::Trusted, Some(time)) => format!(
            "Proven: the event existed no later than {}, when a block was made that you trust, and has not changed since.",
            Time(time)
        ),
        (Level::Stated, _) => "Established: the statement is well formed, and a signature in it is right.".to_owned(),
        (Level::Batched, _) => "Established: the statement is in a batch. Whoever made the batch may be anybody.".to_owned(),
        (Level::Logged, _) => "Established: a log whose key you trust has the event.".to_owned(),
        (Level::Anchored | Level::Trusted, _) => {
            "Established: the log's checkpoint is in a block. Whoever has the log key can make such a block himself."
                .to_owned()
        }
    };
    writeln!(out, "{proven}")?;
    write_limits(out, report.level)
}

fn write_limits(out: &mut impl Write, level: Level) -> io::Result<()> {
    if level < Level::Trusted {
        writeln!(out, "Not proven: any time. Only the level `trusted` says something about time.")?;
    }
    writeln!(
        out,
        "Not proven: that what the event says is true, that it did not exist long before, or that no other receipt for it exists.\n\
         The times of the device and of the log are their claims."
    )
}

/// A text from a file as it may be printed: without characters that a terminal obeys or that hide others.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let is_hidden = matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        );
        match character.is_control() || is_hidden {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_hidden_ones_are_printed_escaped() {
        assert_eq!(shown("a\u{1b}[2J\nb\u{9b}ä"), "a\\u{1b}[2J\\u{a}b\\u{9b}ä");
        assert_eq!(shown("\u{202e}evil"), "\\u{202e}evil");
    }
}
