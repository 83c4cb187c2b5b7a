//! Citations of the rules and of the wire format: each leads somewhere, and each rule names its tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};

/// The pages that code may cite, as `rules.md#fenced-settle`.
const PAGES: &[&str] = &[
    "docs/rules.md",
    "docs/wire-format/differences.md",
    "docs/wire-format/layout.md",
    "docs/wire-format/ours.md",
    "docs/wire-format/transitions.md",
];
const RULES: &str = PAGES[0];

/// The pages, by file name, with the anchors of their headings.
#[derive(Debug)]
pub(crate) struct Citations {
    anchors: BTreeMap<&'static str, BTreeSet<String>>,
    rules: String,
}

impl Citations {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut anchors = BTreeMap::new();
        for page in PAGES {
            let text = fs::read_to_string(root.join(page)).with_context(|| format!("cannot read {page}"))?;
            anchors.insert(file_name(page), headings(&text).map(anchor).collect());
        }
        let rules = fs::read_to_string(root.join(RULES))?;
        Ok(Self { anchors, rules })
    }

    /// The citations in a file that lead nowhere.
    pub(crate) fn dangling(&self, name: &str, text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            for (page, cited) in citations(line) {
                // `](#here)` stays on its page.
                let page = if page.is_empty() { file_name(name) } else { page };
                if let Some(anchors) = self.anchors.get(page)
                    && !anchors.contains(cited)
                {
                    breaches.push(format!("{name}:{number}: there is no heading `{page}#{cited}`"));
                }
            }
        }
        breaches
    }

    /// The rules that name no test, and the tests that do not exist.
    pub(crate) fn rules_without_test(&self, functions: &BTreeSet<String>) -> Vec<String> {
        let mut breaches = Vec::new();
        for section in self.rules.split("\n## ").skip(1) {
            let rule = section.lines().next().unwrap_or_default();
            let tests = section.split("\nTests:").nth(1).unwrap_or_default();
            let mut names = tests.split('`').skip(1).step_by(2).peekable();
            if names.peek().is_none() {
                breaches.push(format!("{RULES}: no test holds the rule `{rule}`"));
            }
            for name in names.filter(|name| !functions.contains(*name)) {
                breaches.push(format!("{RULES}: rule `{rule}`: there is no test `{name}`"));
            }
        }
        breaches
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The page and the anchor of each citation in a line; the page is empty in a link to the same page.
fn citations(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.match_indices('#').filter_map(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + 1..]);
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '-' && c != '_');
        let cited = &after[..end.unwrap_or(after.len())];
        if before.ends_with("](") {
            return Some(("", cited));
        }
        let begin = before
            .rfind(|c: char| !c.is_alphanumeric() && !"-_.".contains(c))
            .map_or(0, |place| place + 1);
        let page = before.get(begin..).unwrap_or_default();
        (page.ends_with(".md") && !cited.is_empty()).then_some((page, cited))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(rules: &str) -> Citations {
        let anchors = headings(rules).map(anchor).collect();
        Citations {
            anchors: BTreeMap::from([("sample.md", anchors)]),
            rules: rules.to_owned(),
        }
    }

    #[test]
    fn citations_lead_somewhere() {
        let pages = pages("# The rules\n\n## one-state\n\n## Add to a group, unique\n");
        let breaches = |line: &str| pages.dangling("src/lib.rs", line).len();
        assert_eq!(
            breaches("/// Once (sample.md#one-state, docs/sample.md#add-to-a-group-unique)."),
            0
        );
        assert_eq!(breaches("/// Once (`sample.md#two-states`, sample.md#one-state)."), 1);
        assert_eq!(breaches("// (sample.md#one-stat); é.md#x other.md#y; #[test] a[#z]"), 1);
        assert_eq!(pages.dangling("docs/sample.md", "[a](#one-state) [b](#gone)").len(), 1);
        assert_eq!(pages.dangling("docs/other.md", "[b](#gone)").len(), 0);
    }

    #[test]
    fn rules_name_tests_that_exist() {
        let functions = BTreeSet::from(["here".to_owned()]);
        let breaches = |text: &str| pages(text).rules_without_test(&functions).len();
        assert_eq!(breaches("# R\n\n## a\n\nIt holds.\n\nTests: `here`\n"), 0);
        assert_eq!(
            breaches("# R\n\n## a\n\nSee `here`.\n\n## b\n\nTests: `here` `gone`\n"),
            2
        );
    }
}
