//! The page itself, and what it may do.

use crate::report::csp_digest;
use std::sync::LazyLock;

/// The page: HTML with its style and script inside.
pub(super) struct Page {
    pub html: String,
    /// Its Content-Security-Policy, which everything else is served with, too.
    pub policy: String,
}

/// One page for everybody: what it shows it asks for.
pub(super) static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let (style, script) = (include_str!("page/page.css"), include_str!("page/page.js"));
    let html = include_str!("page/page.html").replace("{style}", style).replace("{script}", script);
    // Style and script by digest; answers of this server alone; an icon that stands in the page. Nothing that could turn a
    // text into markup works at all (Trusted Types).
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        csp_digest(style),
        csp_digest(script)
    );
    Page { html, policy }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_and_turns_no_text_into_markup() {
        let script = include_str!("page/page.js");
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "setAttribute(\"on",
            "srcdoc",
            "createContextualFragment",
            "DOMParser",
            "setHTML",
            "import(",
            ".src =",
            "javascript:",
        ] {
            assert!(!script.contains(sink), "the script has `{sink}`");
        }
        let outside = PAGE.html.replace("http://www.w3.org/2000/svg", "");
        for reach in ["http:", "https:", "//cdn", "@import", "url(", "src="] {
            let found =
                outside.find(reach).map(|at| &outside[at.saturating_sub(40)..(at + 40).min(outside.len())]);
            assert_eq!(found, None, "the page reaches out by `{reach}`");
        }
        assert!(
            !PAGE.html.contains(" style=\"") && !PAGE.html.contains(" onclick"),
            "its own policy forbids that"
        );
        assert!(!PAGE.html.contains("{style}") && !PAGE.html.contains("{script}"));
    }
}
