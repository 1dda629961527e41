//! `killick receipts list`: the events of the catalog, page by page.

use std::fmt;
use std::io::BufWriter;
use std::str::FromStr;

use killick_proof::statement::Statement;
use killick_stages::record::Micros;
use serde_json::json;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::*;
use crate::cli::{Output, shown};
use crate::verify::time::Time;

/// Batches asked for at a time.
const BATCHES: usize = 256;
/// Microseconds of a day.
const DAY: Micros = 86_400_000_000;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    from: From,
    /// Only events of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only batches that began on this day, in UTC: YYYY-MM-DD.
    #[arg(long, value_name = "DAY", value_parser = day)]
    day: Option<i32>,
    /// Events in the page.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Go on behind this event: what the page before said at its end.
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Text for people, or one JSON object for each event and line; the last has the cursor of the next page, if there
    /// is one.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn day(text: &str) -> Result<i32, String> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map_err(|_| "a day is written YYYY-MM-DD".to_owned())?;
    Ok(date.to_julian_day() - OffsetDateTime::UNIX_EPOCH.date().to_julian_day())
}

/// An event's place, as a page ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor(Place);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0.origin, self.0.number, self.0.index)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = || {
            let mut parts = text.rsplitn(3, ':');
            let index = parts.next()?.parse().ok()?;
            let number = parts.next()?.parse().ok()?;
            Some(Place { origin: parts.next()?.into(), number, index })
        };
        place().map(Self).ok_or_else(|| "this is no end of a page".to_owned())
    }
}

/// Prints one page.
pub(super) fn list(args: &ListArgs) -> Result<()> {
    let catalog = args.from.find()?.catalog()?;
    let mut page = Page { args, out: BufWriter::new(io::stdout().lock()), left: args.limit, last: None };
    let more = match (&args.tenant, args.day) {
        (Some(tenant), Some(day)) => by_day(&*catalog, tenant, day, &mut page)?,
        _ => by_log(&*catalog, &mut page)?,
    };
    if let (true, Some(cursor)) = (more, &page.last) {
        match args.output {
            Output::Json => writeln!(page.out, "{}", json!({"next": cursor.to_string()}))?,
            Output::Text => {
                page.out.flush()?;
                writeln!(io::stderr(), "there is more: --after {cursor}")?;
            }
        }
    }
    page.out.flush()?;
    Ok(())
}

/// The batches of one tenant and day, as the catalog lists them. Returns whether there is more.
fn by_day(catalog: &dyn Catalog, tenant: &str, day: i32, page: &mut Page<'_>) -> Result<bool> {
    // The batch of the cursor may hold more events.
    let mut after = None;
    if let Some(Cursor(place)) = &page.args.after {
        if !page.batch(catalog, &place.origin, place.number)? {
            return Ok(true);
        }
        after = Some((place.origin.clone(), place.number));
    }
    loop {
        let batches = catalog.list(tenant, day, after.as_ref(), BATCHES)?;
        for (origin, number) in &batches {
            if !page.batch(catalog, origin, *number)? {
                return Ok(true);
            }
        }
        match batches.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => return Ok(false),
        }
    }
}

/// All batches in the order of their logs. Returns whether there is more.
fn by_log(catalog: &dyn Catalog, page: &mut Page<'_>) -> Result<bool> {
    for origin in catalog.origins()? {
        let first = match &page.args.after {
            Some(Cursor(place)) if origin < place.origin => continue,
            Some(Cursor(place)) if origin == place.origin => place.number,
            _ => 0,
        };
        for number in first..catalog.log_size(&origin)? {
            if !page.batch(catalog, &origin, number)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A page being printed.
struct Page<'a> {
    args: &'a ListArgs,
    out: BufWriter<io::StdoutLock<'a>>,
    left: u64,
    last: Option<Cursor>,
}

impl Page<'_> {
    /// Prints the events of a batch. Returns `false` where the page was full before its end.
    fn batch(&mut self, catalog: &dyn Catalog, origin: &str, number: u64) -> Result<bool> {
        let Some(batch) = catalog.batch(origin, number)? else { return Ok(true) };
        let logged = BatchHeader::decode(&batch.header)?.first_time;
        if self.args.day.is_some_and(|day| logged.div_euclid(DAY) != Micros::from(day)) {
            return Ok(true);
        }
        let is_anchored = !catalog.anchors_of(origin, number)?.is_empty();
        for (index, statement) in (0..).zip(&batch.statements) {
            let place = Place { origin: origin.into(), number, index };
            if self.args.after.as_ref().is_some_and(|Cursor(after)| place <= *after) {
                continue;
            }
            let statement = Statement::decode(statement)?;
            if self.args.tenant.as_deref().is_some_and(|tenant| tenant != statement.event.tenant) {
                continue;
            }
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            self.write(&statement, &place, is_anchored)?;
            self.last = Some(Cursor(place));
        }
        Ok(true)
    }

    fn write(&mut self, statement: &Statement<'_>, place: &Place, is_anchored: bool) -> Result<()> {
        let event = statement.event;
        let state = if is_anchored { "proof-ready" } else { "waiting" };
        match self.args.output {
            Output::Json => {
                let object = json!({
                    "tenant": event.tenant,
                    "source": event.source,
                    "id": event.id,
                    "time": Time(event.time),
                    "type": event.kind,
                    "state": state,
                    "name": event_name(event.tenant, event.source, event.id),
                    "place": {"origin": place.origin, "number": place.number, "index": place.index},
                });
                writeln!(self.out, "{object}")?;
            }
            Output::Text => writeln!(
                self.out,
                "{state:<11}  {}  {}  {}  {}",
                Time(event.time),
                event.tenant,
                shown(event.source),
                shown(event.id)
            )?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let cursor = Cursor(Place { origin: "plant.example/1/sha256/7".into(), number: 12, index: 3 });
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for wrong in ["", "1", "1:2", "a:b:c", "a:1:-1"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_count_from_1970() {
        assert_eq!(day("1970-01-01"), Ok(0));
        assert_eq!(day("2013-12-02"), Ok(16_041));
        assert_eq!(day("1969-12-31"), Ok(-1));
        assert!(day("2013-02-30").is_err());
    }
}
