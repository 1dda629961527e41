//! What can go wrong, how often, and how that is written.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::dice::MILLION;

/// Most blocks or rounds of one fault.
const MAX_SIZE: u64 = 1_000;

/// Longest pause, and longest time that a request is left without an answer.
const MAX_SPAN: Duration = Duration::from_secs(600);

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A block is replaced by another one, in the round after it was made. Tried once a block.
    Orphans,
    /// A chain is reorganised so many blocks deep. Tried once a round, as the next five are.
    Reorganize,
    /// The nodes fall in two groups that do not know of each other, for so many rounds.
    Partition,
    /// A node shows what was so many rounds ago, for as many rounds.
    Lag,
    /// A node is away for so many rounds.
    Down,
    /// A node forgets all commands that wait. Another one may tell it again.
    LostMempool,
    /// A node forgets that, and what it held to be hopeless.
    Restart,
    /// A command is taken and forgotten. Tried once a command, as the next four are.
    LostCommand,
    /// A command is taken and held to be hopeless: it polls as a failure that is in no block.
    BadList,
    /// A command waits and is mined by nobody, until it expires.
    Stuck,
    /// A command fails in its block, as if its gas were not enough, and pays all of it.
    FailedCommand,
    /// A command that is known is taken as if it were not. It is mined once all the same.
    TakenAgain,
    /// 500 `Something went wrong`; nothing is done. Tried once a request, as all that follow.
    Http500,
    /// 502 from something in between; nothing is done.
    Http502,
    /// 503 from something in between; nothing is done.
    Http503,
    /// The connection is reset; nothing is done.
    Reset,
    /// It is done, and then the connection is reset.
    LostAnswer,
    /// It is done, and nothing is answered, until the connection ends.
    NoAnswer,
    /// It is done, and the connection ends within the answer.
    CutAnswer,
    /// The answer comes late.
    Delay,
    /// The answer comes in pieces.
    Slow,
    /// A whole answer of half a body.
    Truncated,
    /// A page for people in place of the answer.
    Html,
    /// The answer, said to be something else.
    ContentType,
    /// An endless body.
    Huge,
}

/// What is known of a kind: its name, its share and size in `all`.
struct Kind {
    fault: Fault,
    name: &'static str,
    /// Parts of a million.
    usual: u32,
    size: Option<RangeInclusive<u64>>,
}

const fn kind(fault: Fault, name: &'static str, usual: u32) -> Kind {
    Kind { fault, name, usual, size: None }
}

const fn sized(fault: Fault, name: &'static str, usual: u32, size: RangeInclusive<u64>) -> Kind {
    Kind { fault, name, usual, size: Some(size) }
}

/// All kinds, in the order of [`Fault`].
const KINDS: [Kind; 25] = [
    kind(Fault::Orphans, "orphans", ORPHAN_RATE),
    sized(Fault::Reorganize, "reorganize", 5_000, 1..=5),
    sized(Fault::Partition, "partition", 5_000, 2..=8),
    sized(Fault::Lag, "lag", 5_000, 1..=4),
    sized(Fault::Down, "down", 5_000, 1..=8),
    kind(Fault::LostMempool, "lost-mempool", 5_000),
    kind(Fault::Restart, "restart", 5_000),
    kind(Fault::LostCommand, "lost-command", 10_000),
    kind(Fault::BadList, "bad-list", 5_000),
    kind(Fault::Stuck, "stuck", 5_000),
    kind(Fault::FailedCommand, "failed-command", 5_000),
    kind(Fault::TakenAgain, "taken-again", 500_000),
    kind(Fault::Http500, "http-500", 10_000),
    kind(Fault::Http502, "http-502", 5_000),
    kind(Fault::Http503, "http-503", 5_000),
    kind(Fault::Reset, "reset", 5_000),
    kind(Fault::LostAnswer, "lost-answer", 5_000),
    kind(Fault::NoAnswer, "no-answer", 2_000),
    kind(Fault::CutAnswer, "cut-answer", 5_000),
    kind(Fault::Delay, "delay", 10_000),
    kind(Fault::Slow, "slow", 5_000),
    kind(Fault::Truncated, "truncated", 5_000),
    kind(Fault::Html, "html", 5_000),
    kind(Fault::ContentType, "content-type", 5_000),
    kind(Fault::Huge, "huge", 1_000),
];

/// Blocks on losing branches of mainnet01: 26 of a thousand, all of them one deep.
const ORPHAN_RATE: u32 = 26_000;

impl Fault {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|kind| kind.fault)
    }

    /// Its name in a text of faults.
    pub fn name(self) -> &'static str {
        self.kind().name
    }

    /// Those that are tried at each request, in this order; the first that comes up is done.
    pub(super) fn of_answers() -> impl Iterator<Item = Self> {
        Self::all().filter(|fault| *fault >= Self::Http500)
    }

    fn kind(self) -> &'static Kind {
        &KINDS[self as usize]
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each kind of trouble comes.
///
/// As text: parts with commas between them, of which the later count. A part is `none`, `real` (what mainnet01 shows:
/// 2.6 % orphans), `all` (a bit of everything), `NAME=RATE`, `NAME=SIZE@RATE` where blocks or rounds are counted,
/// `pause=SPAN` or `hang=SPAN`. A rate is in percent, `2.6%`; a size a number or a range, `3` or `1-5`; a span a number
/// with `ms` or `s`.
///
/// ```
/// # use chainweb::devnet::{Fault, Faults};
/// let faults: Faults = "real,reorganize=1-6@0.5%,http-500=1%".parse()?;
/// assert!(faults.has(Fault::Orphans) && !faults.has(Fault::Slow));
/// assert_eq!(faults.to_string(), "orphans=2.6%,reorganize=1-6@0.5%,http-500=1%");
/// # Ok::<(), chainweb::devnet::FaultsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// In parts of a million, and the size; in the order of [`KINDS`].
    rates: Box<[(u32, RangeInclusive<u64>); KINDS.len()]>,
    pause: Duration,
    hang: Duration,
}

/// The pause and the time without an answer that are not worth writing.
const SPANS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A text that says no faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}`: {why}")]
pub struct FaultsError {
    /// The part that is wrong.
    pub part: String,
    /// What is wrong with it, and what is allowed.
    pub why: String,
}

impl Default for Faults {
    fn default() -> Self {
        Self::none()
    }
}

impl Faults {
    /// No trouble.
    pub fn none() -> Self {
        let none = |kind: &Kind| (0, kind.size.clone().unwrap_or(0..=0));
        let rates = Box::new(std::array::from_fn(|index| none(&KINDS[index])));
        Self { rates, pause: SPANS.0, hang: SPANS.1 }
    }

    /// What mainnet01 was seen to do: of its blocks, 2.6 % are orphans.
    pub fn real() -> Self {
        Self::none().with(Fault::Orphans, ORPHAN_RATE)
    }

    /// A bit of everything; commands still get through.
    pub fn all() -> Self {
        KINDS.iter().fold(Self::none(), |faults, kind| faults.with(kind.fault, kind.usual))
    }

    /// With another rate of one kind, in parts of a million.
    #[must_use]
    pub fn with(mut self, fault: Fault, parts_per_million: u32) -> Self {
        self.rates[fault as usize].0 = parts_per_million.min(MILLION);
        self
    }

    /// Whether a kind comes at all.
    pub fn has(&self, fault: Fault) -> bool {
        self.rate(fault) > 0
    }

    /// The rate of a kind, in parts of a million.
    pub fn rate(&self, fault: Fault) -> u32 {
        self.rates[fault as usize].0
    }

    /// Blocks or rounds of a kind that has a size.
    pub fn size(&self, fault: Fault) -> RangeInclusive<u64> {
        self.rates[fault as usize].1.clone()
    }

    /// How long an answer is late, and the time between two pieces of a slow one. Default 200 ms.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// How long a request is left without an answer before its connection ends. Default 30 s.
    pub fn hang(&self) -> Duration {
        self.hang
    }

    fn put(&mut self, part: &str) -> Result<(), String> {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => {
                let (pause, hang) = (self.pause, self.hang);
                let named = match part {
                    "none" => Self::none(),
                    "real" => Self::real(),
                    "all" => Self::all(),
                    _ => {
                        return Err(format!(
                            "a part is none, real, all, or one of {} with = and a rate",
                            names()
                        ));
                    }
                };
                *self = Self { pause, hang, ..named };
                return Ok(());
            }
        };
        match name {
            "pause" => self.pause = span(value)?,
            "hang" => self.hang = span(value)?,
            _ => {
                let index = KINDS.iter().position(|kind| kind.name == name);
                let index = index.ok_or_else(|| format!("there is no {name}; there are {}", names()))?;
                let rate = match (value.split_once('@'), &KINDS[index].size) {
                    (None, _) => value,
                    (Some((text, rate)), Some(_)) => {
                        self.rates[index].1 = size(text)?;
                        rate
                    }
                    (Some(_), None) => return Err(format!("{name} has no size: write {name}=1%")),
                };
                self.rates[index].0 = percent(rate)?;
            }
        }
        Ok(())
    }
}

fn names() -> String {
    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).chain(["pause", "hang"]).collect();
    names.join(", ")
}

/// Parts of a million.
fn percent(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text} is no rate: write 0% to 100%, with at most 4 digits after the point");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() > 3 || fraction.len() > 4 {
        return Err(wrong());
    }
    let parts: u32 = format!("{whole}{fraction:0<4}").parse().map_err(|_| wrong())?;
    if parts <= MILLION { Ok(parts) } else { Err(wrong()) }
}

fn size(text: &str) -> Result<RangeInclusive<u64>, String> {
    let wrong = || format!("{text} is no size: write a number from 1 to {MAX_SIZE}, or a range such as 1-5");
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = low.parse().ok().zip(high.parse().ok()).ok_or_else(wrong)?;
    if 1 <= low && low <= high && high <= MAX_SIZE { Ok(low..=high) } else { Err(wrong()) }
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no span: write 1ms to {}s", MAX_SPAN.as_secs());
    let span = match text.strip_suffix("ms") {
        Some(millis) => millis.parse().map(Duration::from_millis),
        None => text.strip_suffix('s').ok_or_else(wrong)?.parse().map(Duration::from_secs),
    };
    span.ok().filter(|span| (Duration::from_millis(1)..=MAX_SPAN).contains(span)).ok_or_else(wrong)
}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, FaultsError> {
        let mut faults = Self::none();
        for part in text.split(',').map(str::trim) {
            let wrong = |why| FaultsError { part: part.chars().take(100).collect(), why };
            faults.put(part).map_err(wrong)?;
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    /// The text that parses to the same faults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (kind, (rate, size)) in KINDS.iter().zip(self.rates.iter()).filter(|(_, (rate, _))| *rate > 0) {
            let sized = match (&kind.size, size.start(), size.end()) {
                (None, _, _) => String::new(),
                (Some(_), low, high) if low == high => format!("{low}@"),
                (Some(_), low, high) => format!("{low}-{high}@"),
            };
            let (whole, fraction) = (rate / 10_000, format!(".{:04}", rate % 10_000));
            let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
            parts.push(format!("{}={sized}{whole}{fraction}%", kind.name));
        }
        if parts.is_empty() {
            parts.push("none".to_owned());
        }
        for (name, span, usual) in [("pause", self.pause, SPANS.0), ("hang", self.hang, SPANS.1)] {
            if span != usual {
                parts.push(format!("{name}={}ms", span.as_millis()));
            }
        }
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_has_each_kind_at_its_place() {
        for (index, kind) in KINDS.iter().enumerate() {
            assert_eq!(kind.fault as usize, index, "{}", kind.name);
        }
        assert_eq!(Fault::of_answers().count(), 13);
    }

    #[test]
    fn later_parts_count_and_names_put_all_rates() {
        let faults: Faults = "all, http-500=0%, reorganize=3@0.5%, pause=5ms".parse().unwrap();
        assert!(!faults.has(Fault::Http500) && faults.has(Fault::Slow));
        assert_eq!((faults.rate(Fault::Reorganize), faults.size(Fault::Reorganize)), (5_000, 3..=3));
        assert_eq!(faults.pause(), Duration::from_millis(5));
        let real: Faults = "all,real".parse().unwrap();
        assert_eq!(real, Faults::real());
        assert_eq!("".parse::<Faults>().unwrap_err().part, "");
        assert_eq!("none".parse(), Ok(Faults::none()));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (text, part, why) in [
            ("orphans=2.6%,reorganise=5@1%", "reorganise=5@1%", "reorganize"),
            ("orphans", "orphans", "with = and a rate"),
            ("orphans=2.6", "orphans=2.6", "0% to 100%"),
            ("slow=100.1%", "slow=100.1%", "0% to 100%"),
            ("slow=1.00001%", "slow=1.00001%", "4 digits"),
            ("slow=-1%", "slow=-1%", "0% to 100%"),
            ("slow=3@1%", "slow=3@1%", "no size"),
            ("reorganize=0@1%", "reorganize=0@1%", "1 to 1000"),
            ("reorganize=5-2@1%", "reorganize=5-2@1%", "1-5"),
            ("pause=1h", "pause=1h", "600s"),
            ("hang=0s", "hang=0s", "1ms"),
        ] {
            let error = text.parse::<Faults>().unwrap_err();
            assert_eq!(error.part, part);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_text_parses_to_what_it_was_written_from(
            rates in prop::collection::vec((0..=MILLION, 1..=MAX_SIZE, 0..50_u64), KINDS.len()),
            pause in 1..600_000_u64,
        ) {
            let mut faults = Faults { pause: Duration::from_millis(pause), ..Faults::none() };
            for (index, (rate, low, more)) in rates.into_iter().enumerate() {
                faults.rates[index].0 = rate;
                if KINDS[index].size.is_some() && rate > 0 {
                    faults.rates[index].1 = low..=(low + more).min(MAX_SIZE);
                }
            }
            prop_assert_eq!(faults.to_string().parse(), Ok(faults));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,200}") {
            let _ = text.parse::<Faults>();
        }
    }
}
