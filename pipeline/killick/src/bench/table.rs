//! What was found: figures with their units and goals, for people and for programs.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

/// What is found, in the order in which it is.
#[derive(Debug, Default)]
pub struct Figures {
    all: Vec<Figure>,
    is_quiet: bool,
}

/// One of them.
#[derive(Debug, Clone, Serialize)]
struct Figure {
    #[serde(skip)]
    name: String,
    value: f64,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'static str,
    #[serde(flatten)]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It should be no less.
    Least(f64),
    /// It should be no more.
    Most(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::Least(least) => value >= least,
            Self::Most(most) => value <= most,
        }
    }
}

impl Figures {
    /// Nothing yet; `is_quiet` where nobody wants to be told how far it is.
    pub fn new(is_quiet: bool) -> Self {
        Self { is_quiet, ..Self::default() }
    }

    /// Adds a figure.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str, goal: Option<Goal>) {
        let met = goal.map(|goal| goal.is_met(value));
        self.all.push(Figure { name: name.to_owned(), value, unit, goal, met });
    }

    /// Tells people what is done now.
    pub fn says(&self, what: &str) {
        if !self.is_quiet {
            eprintln!("  {what}");
        }
    }

    /// The value of a figure, if it was found.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.all.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// One object: about the run, and each figure by its name.
    pub fn to_json(&self, about: &Value) -> Value {
        let figures: Map<_, _> = self.all.iter().map(|figure| (figure.name.clone(), json!(figure))).collect();
        json!({ "about": about, "figures": figures })
    }

    /// A table for people, which is one of Markdown, too.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, out: &mut impl Write, about: &str) -> io::Result<()> {
        writeln!(out, "{about}\n")?;
        let rows: Vec<[String; 4]> = self.all.iter().map(row).collect();
        let heads = ["figure", "value", "unit", "goal"].map(str::to_owned);
        let width = |column: usize| {
            rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths = [0, 1, 2, 3].map(width);
        write_row(out, &heads, widths)?;
        let rules = widths.map(|width| "-".repeat(width));
        writeln!(out, "| {} | {}: | {} | {} |", rules[0], &rules[1][1..], rules[2], rules[3])?;
        rows.iter().try_for_each(|row| write_row(out, row, widths))
    }
}

fn write_row(out: &mut impl Write, row: &[String; 4], widths: [usize; 4]) -> io::Result<()> {
    let [name, value, unit, goal] = row;
    let [of_name, of_value, of_unit, of_goal] = widths;
    writeln!(out, "| {name:of_name$} | {value:>of_value$} | {unit:of_unit$} | {goal:of_goal$} |")
}

fn row(figure: &Figure) -> [String; 4] {
    let goal = match (figure.goal, figure.met) {
        (Some(Goal::Least(least)), met) => format!("≥ {}{}", number(least), missed(met)),
        (Some(Goal::Most(most)), met) => format!("≤ {}{}", number(most), missed(met)),
        (None, _) => String::new(),
    };
    [figure.name.clone(), number(figure.value), figure.unit.to_owned(), goal]
}

fn missed(met: Option<bool>) -> &'static str {
    if met == Some(false) { ", missed" } else { "" }
}

/// Three digits that count, and thousands apart.
fn number(value: f64) -> String {
    let places = match value.abs() {
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        small if small < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.places$}");
    let (whole, rest) =
        text.split_once('.').map_or((&*text, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut apart = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            apart.push(',');
        }
        apart.push(digit);
    }
    // 1.50 is 1.5, and 2.00 is 2.
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    format!("{sign}{apart}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        for (value, text) in [
            (0.0, "0"),
            (0.2264, "0.226"),
            (1.084, "1.08"),
            (1.5, "1.5"),
            (37.64, "37.6"),
            (216_034.4, "216,034"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_goal_that_is_missed_is_said() {
        let mut figures = Figures::new(true);
        figures.add("e_signed", 0.9, "", Some(Goal::Least(0.85)));
        figures.add("p95", 600.0, "ms", Some(Goal::Most(500.0)));
        let mut text = Vec::new();
        figures.write(&mut text, "a machine").unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "a machine\n\n| figure   | value | unit | goal          |\n| -------- | ----: | ---- | ------------- |\n\
             | e_signed |   0.9 |      | ≥ 0.85        |\n| p95      |   600 | ms   | ≤ 500, missed |\n"
        );
        let object = figures.to_json(&json!({ "cores": 2 }));
        assert_eq!(
            object["figures"]["p95"],
            json!({ "value": 600.0, "unit": "ms", "most": 500.0, "met": false })
        );
        assert_eq!(object["figures"]["e_signed"], json!({ "value": 0.9, "least": 0.85, "met": true }));
    }
}
