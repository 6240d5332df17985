//! A shell as a reader of a page has it: a folder with the files of the examples, and `curl`, `grpcurl` and `semblance` that reach
//! the server of this test.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::page::{Block, Fate, Page};
use crate::support::{Home, Server, program};

/// Longer than any page takes; a page that waits forever must end.
const PAGE_SECONDS_MAX: &str = "300";

/// Programs of the machine that the examples use.
const TOOLS: [&str; 3] = ["curl", "jq", "python3"];

/// Fails on an HTTP error, unless the block expects it, and keeps the last answer.
const CURL: &str = r#"#!/bin/bash
set -o pipefail
if [ -n "${EXPECTED_STATUS:-}" ]; then
    status=$(command -p curl --silent --show-error --output "$LAST_ANSWER" --write-out '%{http_code}' "$@") || exit
    cat "$LAST_ANSWER"
    [ "$status" = "$EXPECTED_STATUS" ] || { echo "HTTP $status instead of $EXPECTED_STATUS" >&2; exit 22; }
else
    command -p curl --silent --show-error --fail-with-body "$@" | tee "$LAST_ANSWER"
fi
"#;

pub(super) struct Session {
    folder: TempDir,
    http: String,
    grpc: String,
}

impl Session {
    pub(super) fn new(home: &Home, server: &Server, models: Option<&Path>) -> Self {
        for tool in TOOLS {
            let found = Command::new(tool).arg("--version").output();
            assert!(found.is_ok(), "the examples of the documentation need {tool}; install it");
        }
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["work", "bin", "answers", "no-models"] {
            fs::create_dir(folder.path().join(name)).expect("a new folder");
        }
        let address = |url: &str| url.trim_start_matches("http://").to_owned();
        let session = Self { http: address(&server.http), grpc: address(&server.grpc), folder };
        session.write_program("curl", CURL);
        let models = models.map_or_else(|| session.path("no-models"), Path::to_owned);
        session.write_program(
            "semblance",
            &format!(
                "#!/bin/bash\nexport SEMBLANCE_DATA_DIR='{}' SEMBLANCE_MODELS_DIR='{}' DATABASE_URL='{}' \
                 SEMBLANCE_SERVER='{}' SEMBLANCE_LOG=warn\nexec '{}' \"$@\"\n",
                home.path().display(),
                models.display(),
                home.database_url,
                server.grpc,
                env!("CARGO_BIN_EXE_semblance"),
            ),
        );
        if let Some(grpcurl) = grpcurl() {
            std::os::unix::fs::symlink(grpcurl, session.path("bin/grpcurl")).expect("a link");
        }
        session
    }

    /// The folder that the commands run in.
    pub(super) fn work(&self) -> PathBuf {
        self.path("work")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// Runs the blocks of a page in order in one shell, then compares the printed answers.
    pub(super) fn run(&self, page: &Page) {
        let blocks: Vec<&Block> = page.blocks_to_run().collect();
        let mut script = String::from("set -euo pipefail\n");
        for (at, block) in blocks.iter().enumerate() {
            let Fate::Run { expected_status } = block.fate else { unreachable!("only these are asked for") };
            let expected = expected_status.map(|status| status.to_string()).unwrap_or_default();
            script += &format!(
                "echo '== {}' >&2\nexport EXPECTED_STATUS={expected}\n: > \"$LAST_ANSWER\"\n{}\ncp \"$LAST_ANSWER\" '{}'\n",
                block.place,
                self.with_addresses(&block.text),
                self.answer_file(at).display(),
            );
        }
        let path = std::env::var("PATH").expect("there is a PATH");
        let ended = Command::new("timeout")
            .args([PAGE_SECONDS_MAX, "bash", "-c", &script])
            .current_dir(self.work())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("LAST_ANSWER", self.path("last-answer"))
            .output()
            .expect("bash runs");
        let output = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "{}: a block failed ({}):\n{output}", page.path, ended.status);
        for (at, block) in blocks.iter().enumerate() {
            let Some(printed) = &block.answer else { continue };
            let text = fs::read_to_string(self.answer_file(at)).expect("kept");
            let real: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: no JSON: {error}: {text}", block.place));
            let faults = differences("", printed, &real);
            assert!(faults.is_empty(), "{}: {}\nthe real answer: {real:#}", block.place, faults.join("; "));
        }
    }

    fn answer_file(&self, at: usize) -> PathBuf {
        self.path("answers").join(format!("{at}.json"))
    }

    /// The default addresses of the pages become those of this server.
    fn with_addresses(&self, text: &str) -> String {
        text.replace("127.0.0.1:8080", &self.http).replace("127.0.0.1:50051", &self.grpc)
    }
}

/// Where the printed answer has a key that the real one lacks, or a value of another kind. A page may leave keys out.
fn differences(path: &str, printed: &Value, real: &Value) -> Vec<String> {
    match (printed, real) {
        (Value::Object(printed), Value::Object(real)) => printed
            .iter()
            .flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                real.get(key).map_or_else(
                    || vec![format!("the real answer has no {path}")],
                    |real| differences(&path, value, real),
                )
            })
            .collect(),
        (Value::Array(printed), Value::Array(real)) => match (printed.first(), real.first()) {
            (Some(printed), Some(real)) => differences(&format!("{path}[0]"), printed, real),
            _ => Vec::new(),
        },
        _ if std::mem::discriminant(printed) == std::mem::discriminant(real) => Vec::new(),
        _ => vec![format!("{path} is {real}, not like {printed}")],
    }
}

/// The program that `tools/install.sh grpcurl` installs.
pub(super) fn grpcurl() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/grpcurl");
    path.is_file().then_some(path)
}

/// A folder with the starter packages that the photos of the examples need.
pub(super) fn starters(data: &Path) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["face-mobilefacenet", "face-mtcnn", "face-minifasnet", "person-osnet-x0-25", "gait-walker"] {
        let pulled = program()
            .args(["models", "pull", name])
            .env("SEMBLANCE_MODELS_DIR", folder.path())
            .env("SEMBLANCE_MODEL_MIRROR", data)
            .output()
            .expect("the program runs");
        assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    }
    folder
}

/// The photos, frames and the walk of the examples, from the real data.
pub(super) fn photos(data: &Path, folder: &Path) {
    let set = data.join("face/lfw_devtest");
    let pairs = fs::read_to_string(set.join("pairsDevTest.txt")).expect("readable");
    let pair: Vec<&str> = pairs.lines().nth(1).expect("a matched pair").split('\t').collect();
    let photo = |number: &str| {
        let number: u32 = number.parse().expect("a number");
        set.join("images").join(pair[0]).join(format!("{}_{number:04}.jpg", pair[0]))
    };
    let (first, second) = (photo(pair[1]), photo(pair[2]));
    for (name, from) in [
        ("alice.jpg", &first),
        ("someone.jpg", &second),
        ("group.jpg", &first),
        ("frame1.jpg", &first),
        ("frame2.jpg", &second),
        ("crop.jpg", &first_file(&data.join("person/market1501_query_subset"))),
    ] {
        fs::copy(from, folder.join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    let walk = Command::new("tar")
        .args(["--wildcards", "--occurrence=1", "--to-stdout", "-xJf"])
        .arg(data.join("gait/psymo_subset/skeletons.tar.xz"))
        .arg("skeletons/0/*.json")
        .output()
        .expect("tar runs");
    assert!(walk.status.success(), "{}", String::from_utf8_lossy(&walk.stderr));
    fs::write(folder.join("walk.json"), walk.stdout).expect("written");
}

fn first_file(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let pictures = entries.map(|entry| entry.expect("readable").path());
    pictures.filter(|path| path.extension().is_some_and(|kind| kind == "jpg")).min().expect("a picture")
}

/// Writes a line that is shown for passing tests too.
pub(super) fn report(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
}

#[test]
fn a_key_that_the_server_does_not_send_is_found() {
    let real = serde_json::json!({"a": {"b": [{"c": 1, "d": 2}]}, "e": "x"});
    let same = serde_json::json!({"a": {"b": [{"c": 9}]}, "e": "y"});
    assert!(differences("", &same, &real).is_empty());
    for wrong in [serde_json::json!({"a": {"b": [{"f": 1}]}}), serde_json::json!({"g": 1}), serde_json::json!({"e": 1})]
    {
        assert_eq!(differences("", &wrong, &real).len(), 1, "{wrong}");
    }
}
