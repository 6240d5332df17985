//! A Markdown page, its `sh` blocks, and the answers printed below them.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use serde_json::Value;

/// Fences that a reader would run and this test would not see.
const OTHER_SHELLS: [&str; 5] = ["bash", "shell", "console", "zsh", "shell-session"];
const NOT_RUN: &str = "<!-- not run:";
const EXPECTED: &str = "<!-- expected:";

pub(super) struct Page {
    /// From the repository's root.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
    /// What is wrong with the form of the page.
    pub(super) faults: Vec<String>,
}

pub(super) struct Block {
    /// Path and line of the fence.
    pub(super) place: String,
    pub(super) text: String,
    pub(super) fate: Fate,
    /// The JSON printed below: a part of the answer to the last curl of the block.
    pub(super) answer: Option<Value>,
}

pub(super) enum Fate {
    /// With the one HTTP status that its curls answer, where that is an error.
    Run {
        expected_status: Option<u16>,
    },
    NotRun(String),
}

impl Page {
    pub(super) fn read(root: &Path, path: &str) -> Self {
        let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self::parse(path, text)
    }

    fn parse(path: &str, text: String) -> Self {
        let mut page = Self { path: path.to_owned(), text: String::new(), blocks: Vec::new(), faults: Vec::new() };
        let mut lines = text.lines().enumerate();
        // The last line of text before a fence, and whether the last fence was an `sh` block.
        let (mut before, mut follows_sh) = ("", false);
        while let Some((at, line)) = lines.next() {
            let Some(language) = line.strip_prefix("```") else {
                if !line.trim().is_empty() {
                    before = line;
                }
                continue;
            };
            let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let place = format!("{path}:{}", at + 1);
            match language {
                "sh" => page.add_block(place, &body.join("\n"), before),
                "json" if follows_sh => page.add_answer(&place, &body.join("\n")),
                "json" => page.faults.push(format!("{place}: JSON that is no answer of the block above it")),
                other if OTHER_SHELLS.contains(&other) => {
                    page.faults.push(format!("{place}: a block of commands is marked sh, not {other}"));
                }
                _ => (),
            }
            follows_sh = language == "sh";
            before = "";
        }
        page.text = text;
        page
    }

    fn add_block(&mut self, place: String, text: &str, before: &str) {
        let argument = |start: &str| Some(before.strip_prefix(start)?.strip_suffix("-->")?.trim().to_owned());
        let fate = if let Some(reason) = argument(NOT_RUN) {
            if reason.is_empty() {
                self.faults.push(format!("{place}: it does not say why it is not run"));
            }
            Fate::NotRun(reason)
        } else {
            let expected_status = argument(EXPECTED).map(|status| status.parse().expect("an HTTP status"));
            Fate::Run { expected_status }
        };
        self.blocks.push(Block { place, text: text.to_owned(), fate, answer: None });
    }

    fn add_answer(&mut self, place: &str, text: &str) {
        let block = self.blocks.last_mut().expect("an sh block came before");
        match serde_json::from_str(text) {
            Ok(answer) if matches!(block.fate, Fate::Run { .. }) => block.answer = Some(answer),
            Ok(_) => self.faults.push(format!("{place}: an answer of a block that is not run cannot be compared")),
            Err(error) => self.faults.push(format!("{place}: no JSON: {error}")),
        }
    }

    pub(super) fn blocks_to_run(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| matches!(block.fate, Fate::Run { .. }))
    }

    pub(super) fn has_blocks_to_run(&self) -> bool {
        self.blocks_to_run().next().is_some()
    }

    /// Whether a block sends a photo or a walk of the real data.
    pub(super) fn needs_photos(&self) -> bool {
        self.blocks_to_run().any(|block| [".jpg", "walk.json"].iter().any(|file| block.text.contains(file)))
    }

    pub(super) fn needs_grpcurl(&self) -> bool {
        self.blocks_to_run().any(|block| block.text.contains("grpcurl "))
    }

    /// Links to files or headings that are not there.
    pub(super) fn broken_links(&self, root: &Path) -> Vec<String> {
        let folder = Path::new(&self.path).parent().expect("a file stands in a folder");
        let prose = without_blocks(&self.text);
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let is_elsewhere = |target: &&str| target.contains("://");
        targets
            .filter(|target| !is_elsewhere(target))
            .filter_map(|target| {
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { PathBuf::from(&self.path) } else { resolved(&folder.join(file)) };
                let Ok(text) = fs::read_to_string(root.join(&path)) else {
                    return Some(format!("{}: the link {target} leads nowhere", self.path));
                };
                let has_heading = heading.is_empty() || anchors(&text).any(|anchor| anchor == heading);
                (!has_heading).then(|| format!("{}: {} has no heading #{heading}", self.path, path.display()))
            })
            .collect()
    }
}

/// Without `..`.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    resolved
}

fn without_blocks(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The ids that mdBook and GitHub give to headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let prose = without_blocks(text);
    let headings: Vec<String> = prose
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_owned())
        .collect();
    headings.into_iter().map(|heading| {
        let letters = heading.to_lowercase().replace(' ', "-");
        letters.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
    })
}

#[test]
fn blocks_carry_their_reason_and_their_answer() {
    let text = "```sh\ncurl one\n```\n\n```json\n{\"a\": 1}\n```\n\n<!-- not run: needs Docker -->\n```sh\ndocker\n```\n\n\
                <!-- expected: 404 -->\n```sh\ncurl two\n```\n\n```bash\nhidden\n```\n\n```json\n{}\n```\n";
    let page = Page::parse("page.md", text.to_owned());
    assert_eq!(page.blocks.len(), 3);
    assert_eq!(page.blocks_to_run().count(), 2);
    assert_eq!(page.blocks[0].answer, Some(serde_json::json!({"a": 1})));
    assert!(matches!(&page.blocks[1].fate, Fate::NotRun(reason) if reason == "needs Docker"));
    assert!(matches!(page.blocks[2].fate, Fate::Run { expected_status: Some(404) }));
    assert_eq!(page.faults.len(), 2, "{:?}", page.faults);
}
