//! The README and the pages of `docs/`: every `sh` block runs against a real server, every printed JSON answer has the keys of
//! the real one, every link has a target, and the generated pages are current.

mod page;
mod session;

use std::{fs, path::Path};

use page::{Block, Fate, Page};
use session::Session;

use crate::support::{Database, Home, Server, Start, program};

/// The README must fit on three screens.
const README_LINES_MAX: usize = 150;

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/results"] {
        let entries = fs::read_dir(root.join(folder)).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"));
        paths.extend(names.filter(|name| has_extension(name, "md")).map(|name| format!("{folder}/{name}")));
    }
    paths.sort();
    paths.iter().map(|path| Page::read(root, path)).collect()
}

/// Runs the pages that `chosen` picks, each on a server and in a folder of its own.
async fn run(chosen: impl Fn(&Page) -> bool, installed: Option<&Path>, prepare: impl Fn(&Path)) {
    let chosen: Vec<Page> = pages().into_iter().filter(|page| page.has_blocks_to_run() && chosen(page)).collect();
    assert!(!chosen.is_empty(), "no page was chosen");
    for page in chosen {
        let home = Home::new(&Database::Sqlite).await;
        let server = Server::start(&home, &Start { models: installed, ..Start::default() });
        let session = Session::new(&home, &server, installed);
        prepare(&session.work());
        session.run(&page);
        session::report(&format!("{}: {} blocks run", page.path, page.blocks_to_run().count()));
    }
}

#[test]
fn every_block_runs_or_says_why_not() {
    let pages = pages();
    let faults: Vec<String> = pages.iter().flat_map(|page| page.faults.clone()).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let blocks: Vec<&Block> = pages.iter().flat_map(|page| &page.blocks).collect();
    let run = blocks.iter().filter(|block| matches!(block.fate, Fate::Run { .. })).count();
    session::report(&format!("sh blocks in README and docs: {run} run, {} not run", blocks.len() - run));
    for block in blocks {
        if let Fate::NotRun(reason) = &block.fate {
            session::report(&format!("  not run: {}: {reason}", block.place));
        }
    }
    assert!(run > 0, "the pages have no block that runs");
}

#[test]
fn the_readme_stays_short() {
    let lines = pages().iter().find(|page| page.path == "README.md").expect("it is there").text.lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, more than {README_LINES_MAX}");
}

#[test]
fn every_link_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults: Vec<String> = pages().iter().flat_map(|page| page.broken_links(root)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_source_file_that_a_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_path = |letter: char| letter.is_alphanumeric() || "/_.-".contains(letter);
    for page in pages() {
        let words = page.text.split(|letter| !is_path(letter));
        for path in words.filter(|word| word.starts_with("src/") && has_extension(word, "rs")) {
            assert!(root.join(path).is_file(), "{} names {path}, which does not exist", page.path);
        }
    }
}

#[test]
fn every_page_is_in_the_summary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let summary = fs::read_to_string(root.join("docs/SUMMARY.md")).expect("readable");
    for page in pages() {
        let Some(path) = page.path.strip_prefix("docs/") else { continue };
        assert!(path == "SUMMARY.md" || summary.contains(&format!("({path})")), "docs/SUMMARY.md lacks {path}");
    }
}

#[test]
fn generated_pages_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["settings", "metrics"] {
        let made = program().args(["reference", name]).output().expect("the program runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let page = fs::read_to_string(root.join(format!("docs/{name}.md"))).expect("readable");
        assert!(
            page == String::from_utf8_lossy(&made.stdout),
            "docs/{name}.md is not current; run: target/release/semblance reference {name} > docs/{name}.md"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_without_photos_do_what_the_pages_say() {
    let has_grpcurl = session::grpcurl().is_some();
    for page in pages().iter().filter(|page| page.needs_grpcurl() && !has_grpcurl) {
        session::report(&format!("{}: blocks NOT run, for want of grpcurl: tools/install.sh grpcurl", page.path));
    }
    let is_required = std::env::var("SEMBLANCE_TEST_REQUIRE").is_ok_and(|needs| needs.contains("grpcurl"));
    assert!(has_grpcurl || !is_required, "SEMBLANCE_TEST_REQUIRE asks for grpcurl: tools/install.sh grpcurl");
    run(|page| !page.needs_photos() && (has_grpcurl || !page.needs_grpcurl()), None, |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
async fn blocks_with_photos_do_what_the_pages_say_on_real_data() {
    let data = std::env::var_os("SEMBLANCE_TEST_DATA").expect("SEMBLANCE_TEST_DATA names the folder of the test data");
    let data = Path::new(&data);
    let installed = session::starters(data);
    run(Page::needs_photos, Some(installed.path()), |folder| session::photos(data, folder)).await;
}
