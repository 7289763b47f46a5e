//! What a finding code means, for a person who met it in a report.

use super::text::wrap;
use crate::audit::{Code, Severity};

/// A code's meaning, an example, what to do, and when it counts for the exit code.
pub fn explain(code: Code) -> String {
    let counts = match code.severity() {
        Severity::High => "Counts for exit code 1 unless --fail-on is never.",
        Severity::Medium => "Counts for exit code 1 unless --fail-on is high or never.",
        Severity::Note => "Does not count for exit code 1.",
    };
    let incomplete = match code {
        Code::CaptureDamaged | Code::CaptureLoss => " The evidence is incomplete then: exit code 3.",
        _ => "",
    };
    let mut text = format!("{code} ({} severity)\n", code.severity().as_str());
    let parts = [
        ("Meaning", code.sentence().to_owned()),
        ("Example", code.example().to_owned()),
        ("What to do", code.advice().to_owned()),
        ("Exit code", format!("{counts}{incomplete}")),
    ];
    for (label, body) in parts {
        for (index, line) in wrap(&body, 66).into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            text.push_str(&format!("  {label:<12}{line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_within_eighty_columns() {
        for &code in Code::ALL {
            let text = explain(code);
            assert!(text.starts_with(code.as_str()));
            assert!(text.contains("What to do  ") && text.contains("Exit code"), "{text}");
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        }
        assert!(explain(Code::CaptureDamaged).contains("exit code 3"));
        assert!(!explain(Code::Accepted).contains("exit code 3"));
    }
}
