//! Audit to words. Reports add words, never facts: everything they say stands in the audit or in the judged rows.
//!
//! `text` makes anything printable and fits it to a width; `human` is the terminal's report, `markdown` the same for
//! documents; `json` and `csv` are for programs.

mod csv;
mod diff;
mod explain;
mod html;
mod human;
mod json;
mod junit;
mod markdown;
#[cfg(test)]
mod sample;
mod sarif;
mod site_draft;
mod text;

pub use csv::{csv, csv_head, csv_row};
pub use diff::{HumanDiff, diff_json, diff_markdown};
pub use explain::explain;
pub use html::{csp_digest, html};
pub use human::{Human, TOLD_PER_CODE, answer};
pub use json::{json, json_lines, json_lines_head, json_lines_row, json_lines_tail};
pub use junit::junit;
pub use markdown::markdown;
pub use sarif::sarif;
pub use site_draft::site_draft;
pub use text::{printable, shell_word};
