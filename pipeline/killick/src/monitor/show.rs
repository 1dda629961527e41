//! What a monitor found, for people and for programs.

use std::io::{self, Write as _};

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Output;
use crate::tiles::memory::Memory;
use crate::tiles::watch::{Checked, Split, Trouble};
use crate::verify::shown_line;

/// Prints what was found of one log; a split view is written beside what is remembered of it, first.
pub(super) fn show(
    output: Output,
    origin: &str,
    at: &str,
    memory: &Memory,
    found: &Result<Checked, Trouble>,
) -> Result<()> {
    let mut object = json!({ "origin": origin, "at": at, "verdict": verdict(found) });
    let mut text = match found {
        Ok(checked) => {
            let Checked { size, root, before, entries, also } = checked;
            add(
                &mut object,
                json!({
                    "size": size, "root": root.to_string(), "before": before, "entries": entries, "also": also,
                }),
            );
            let also = also.map_or_else(String::new, |also| format!("; {also} at the second place"));
            format!(
                "{origin}  {size} batches, {} more; {entries} entries checked{also}: consistent",
                size - before
            )
        }
        Err(Trouble::Split(split)) => return show_split(output, origin, memory, split, object),
        Err(Trouble::Wrong(why) | Trouble::Damaged(why) | Trouble::Missing(why) | Trouble::Absent(why)) => {
            add(&mut object, json!({ "why": why }));
            format!("{origin}  {}: {why}", verdict(found))
        }
        Err(Trouble::Stopped) => return Ok(()),
        Err(Trouble::Failed(error)) => {
            add(&mut object, json!({ "why": format!("{error:#}") }));
            format!("{origin}  {}: {error:#}", verdict(found))
        }
    };
    if output == Output::Json {
        text = object.to_string();
    }
    writeln!(io::stdout(), "{}", shown_line(&text))?;
    Ok(())
}

/// What programs filter by; the words never change.
fn verdict(found: &Result<Checked, Trouble>) -> &'static str {
    match found {
        Ok(_) => "consistent",
        Err(Trouble::Split(split)) if split.is_rollback => "rollback",
        Err(Trouble::Split(_)) => "split view",
        Err(Trouble::Wrong(_)) => "wrong entry",
        Err(Trouble::Damaged(_)) => "damaged",
        Err(Trouble::Missing(_)) => "missing",
        Err(Trouble::Absent(_)) => "absent",
        Err(Trouble::Failed(_)) => "failed",
        Err(Trouble::Stopped) => "stopped",
    }
}

fn show_split(output: Output, origin: &str, memory: &Memory, split: &Split, mut object: Value) -> Result<()> {
    let Split { why, is_rollback, notes, places, path } = split;
    let path: Vec<_> = path.iter().map(ToString::to_string).collect();
    let notes = [&*notes[0].note, &*notes[1].note];
    add(&mut object, json!({ "why": why, "places": places, "consistencyPath": path }));
    let evidence = memory.write_evidence(notes, &object)?;
    let evidence = evidence.map(|folder| folder.display().to_string());
    add(&mut object, json!({ "notes": notes, "evidence": evidence }));
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{object}")?;
        return Ok(());
    }
    let what = if *is_rollback { "ROLLBACK" } else { "SPLIT VIEW" };
    writeln!(out, "{}", shown_line(&format!("{origin}  {what}: {why}")))?;
    for (note, place) in notes.into_iter().zip(places) {
        writeln!(out, "{}", shown_line(&format!("  signed, {place}:")))?;
        for line in note.lines() {
            writeln!(out, "    {}", shown_line(line))?;
        }
    }
    if let Some(folder) = evidence {
        writeln!(out, "{}", shown_line(&format!("  kept in {folder}")))?;
    }
    Ok(())
}

fn add(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
