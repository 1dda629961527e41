//! An audit for people, and for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use killick_stages::audit::{Events, Finding, Hop, Kind, Report};
use killick_stages::route::ROUTE;
use serde_json::{Map, Value, json};

use crate::cli::Output;
use crate::verify::shown_line as shown;

/// Prints the findings that were kept, and the report.
pub fn print(output: Output, report: &Report, findings: &[Finding], limit: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Json => {
            for finding in findings {
                writeln!(out, "{}", object_of(finding))?;
            }
            writeln!(out, "{}", object(report))
        }
        Output::Text => {
            for finding in findings {
                writeln!(out, "{}", shown(&finding.to_string()))?;
            }
            if report.count() > findings.len() as u64 {
                writeln!(
                    out,
                    "… and {} more; --limit {limit} prints no more",
                    report.count() - findings.len() as u64
                )?;
            }
            out.write_all(text(report).as_bytes())
        }
    }
}

fn object_of(finding: &Finding) -> Value {
    let Finding { kind, stage, partition, from, to, event, why } = finding;
    json!({
        "finding": kind.name(),
        "stage": stage,
        "topic": partition.topic.as_str(),
        "partition": partition.number,
        "from": from,
        "to": to,
        "event": event.as_ref().map(|name| json!({"tenant": name.tenant, "source": name.source, "id": name.id})),
        "why": why,
    })
}

fn object(report: &Report) -> Value {
    let hops: Vec<Value> = rows(report)
        .map(|(stage, topic, hop)| {
            json!({
                "stage": stage, "topic": topic, "partitions": hop.partitions, "transactions": hop.manifests,
                "offsets": hop.offsets, "taken": hop.taken.events, "takenSum": format!("{:032x}", hop.taken.hashes),
                "passed": hop.passed.events, "passedSum": format!("{:032x}", hop.passed.hashes),
                "rejected": hop.rejected, "duplicates": hop.duplicates,
            })
        })
        .collect();
    let found = Kind::ALL.iter().map(|kind| (kind.name().to_owned(), count(report, *kind).into()));
    let Events { accepted, proven, duplicates, conflicts, waiting, late, lost } = report.events;
    json!({
        "clean": report.is_clean(),
        "findings": found.collect::<Map<String, Value>>(),
        "events": {
            "accepted": accepted, "proven": proven, "duplicates": duplicates, "conflicts": conflicts,
            "waiting": waiting, "late": late, "lost": lost,
        },
        "hops": hops,
        "notCovered": report.not_covered,
    })
}

fn count(report: &Report, kind: Kind) -> u64 {
    report.findings.get(&kind).copied().unwrap_or(0)
}

/// What the stages told, in the order in which an event meets them.
fn rows(report: &Report) -> impl Iterator<Item = (&str, &str, &Hop)> {
    let place = |stage: &str| ROUTE.iter().position(|hop| hop.stage == stage).unwrap_or(ROUTE.len());
    let mut rows: Vec<_> =
        report.hops.iter().map(|((stage, topic), hop)| (&**stage, &**topic, hop)).collect();
    // Of prove: batches come before anchors.
    rows.sort_by_key(|(stage, topic, _)| (place(stage), *topic == killick_stages::route::ANCHORS));
    rows.into_iter()
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    let head = [
        "stage",
        "reads",
        "partitions",
        "transactions",
        "offsets",
        "taken",
        "passed on",
        "rejected",
        "copies",
    ];
    let mut table: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    for (stage, topic, hop) in rows(report) {
        let mut row = vec![shown(stage), shown(topic)];
        let figures = [
            hop.partitions,
            hop.manifests,
            hop.offsets,
            hop.taken.events,
            hop.passed.events,
            hop.rejected,
            hop.duplicates,
        ];
        row.extend(figures.map(|figure| figure.to_string()));
        table.push(row);
    }
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in &table {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let Events { accepted, proven, duplicates, conflicts, waiting, late, lost } = report.events;
    if accepted > 0 {
        let _ = writeln!(
            out,
            "{accepted} accepted: {proven} proven, {duplicates} copies, {conflicts} conflicts, {waiting} waiting, \
             {late} late, {lost} lost"
        );
    }
    for what in &report.not_covered {
        let _ = writeln!(out, "not covered: {}", shown(what));
    }
    if report.is_clean() {
        out.push_str("clean\n");
    } else {
        let found = report.findings.iter().map(|(kind, count)| format!("{count} {kind}"));
        let _ = writeln!(out, "{} findings: {}", report.count(), found.collect::<Vec<_>>().join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use killick_stages::audit::Name;
    use killick_stages::record::Partition;
    use killick_stages::stage::Sum;

    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        let hop =
            Hop { partitions: 2, manifests: 12, taken: Sum { events: 7, hashes: 255 }, ..Hop::default() };
        report.hops.insert(("prove".into(), "anchors".into()), hop);
        report.hops.insert(("dedup".into(), "accepted\u{1b}".into()), hop);
        report.hops.insert(("prove".into(), "batches".into()), hop);
        report.findings.insert(Kind::Lost, 3);
        report.events.accepted = 7;
        report
    }

    #[test]
    fn a_table_has_the_stages_in_their_order_and_nothing_that_a_terminal_obeys() {
        let text = text(&report());
        let stages: Vec<_> =
            text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
        assert_eq!(stages[0], ["stage", "reads"]);
        assert_eq!(stages[1], ["dedup", "accepted\\u{1b}"]);
        assert_eq!((&stages[2][..], &stages[3][..]), (&["prove", "batches"][..], &["prove", "anchors"][..]));
        assert!(text.ends_with("3 findings: 3 lost\n"), "{text}");
        assert!(text.lines().take(4).map(|line| line.chars().count()).max() < Some(100), "{text}");
    }

    #[test]
    fn programs_get_an_object_for_each_finding_and_one_for_the_whole() {
        let name = Name { tenant: "t".into(), source: "s".into(), id: "i\n".into() };
        let finding = Finding {
            kind: Kind::Lost,
            stage: None,
            partition: Partition::new("accepted", 3),
            from: 5,
            to: 6,
            event: Some(name),
            why: "gone".to_owned(),
        };
        let of_finding = object_of(&finding);
        assert_eq!((&of_finding["finding"], &of_finding["event"]["id"]), (&json!("lost"), &json!("i\n")));
        assert_eq!(shown(&finding.to_string()), "lost: accepted/3 at 5, event i\\u{a} of t, s: gone");
        let whole = object(&report());
        assert_eq!(
            (&whole["clean"], &whole["findings"]["lost"], &whole["findings"]["gap"]),
            (&json!(false), &json!(3), &json!(0))
        );
        assert_eq!(whole["hops"][0]["takenSum"], json!(format!("{:032x}", 255)));
    }
}
