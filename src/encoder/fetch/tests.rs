mod server;

use std::io::{Cursor, Write};

use parking_lot::Mutex;
use zip::{ZipWriter, write::SimpleFileOptions};

use self::server::{Reply, Server};
use super::*;
use crate::{
    BundledPackage, EncoderArchitecture, Manifest, ModelKind, WeightsFile,
    package::{MANIFEST_FILE, WEIGHTS_FILE, load_installed},
    tests::{script_package, synthetic_package, write_package},
};
use fixtures::ProgramBehaviour;
use weights::StateDict;

const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Records where downloads resumed and what was described.
#[derive(Default)]
struct RecordedProgress {
    begun: Mutex<Vec<(u64, Option<u64>)>>,
    described: Mutex<Vec<String>>,
}

impl InstallProgress for RecordedProgress {
    fn describe(&self, manifest: &Manifest, _origins: &[&str]) {
        self.described.lock().push(format!("{}: {}", manifest.id, manifest.licence));
    }
    fn begin(&self, already: u64, total: Option<u64>) {
        self.begun.lock().push((already, total));
    }
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
}

/// A file of 100 kB, and a folder to download it to.
struct DownloadTest {
    content: Vec<u8>,
    folder: tempfile::TempDir,
    progress: RecordedProgress,
}

impl DownloadTest {
    fn new() -> Self {
        let content = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        Self { content, folder: tempfile::tempdir().expect("a folder"), progress: RecordedProgress::default() }
    }

    fn partial(&self) -> PathBuf {
        self.folder.path().join("partial")
    }

    fn partial_length(&self) -> Option<u64> {
        fs::metadata(self.partial()).ok().map(|about| about.len())
    }

    fn download(&self, server: &Server, bytes: Option<u64>) -> Result<Vec<u8>, FetchError> {
        let expected = ExpectedFile { url: server.url("/file"), sha256: FileHash::of(&self.content), bytes };
        download::download(&expected, &self.partial(), SILENCE_MAX, &self.progress)?;
        Ok(fs::read(self.partial()).expect("downloaded"))
    }

    fn length(&self) -> u64 {
        self.content.len() as u64
    }
}

#[test]
fn a_broken_download_is_resumed() {
    let rig = DownloadTest::new();
    let content = rig.content.clone();
    let server = Server::start(move |request| match request.from {
        None => Reply::whole(&content).cut_after(40_000),
        Some(from) if from < 70_000 => Reply::rest(&content, from).cut_after(30_000),
        Some(from) => Reply::rest(&content, from),
    });
    assert_eq!(rig.download(&server, Some(rig.length())).expect("three parts"), rig.content);
    assert_eq!(server.ranges(), [None, Some(40_000), Some(70_000)]);
    assert_eq!(
        *rig.progress.begun.lock(),
        [(0, Some(rig.length())), (40_000, Some(rig.length())), (70_000, Some(rig.length()))]
    );
}

#[test]
fn a_later_run_resumes_an_earlier_one() {
    let rig = DownloadTest::new();
    let content = rig.content.clone();
    let server = Server::start(move |request| {
        let reply = request.from.map_or_else(|| Reply::whole(&content), |from| Reply::rest(&content, from));
        if request.number < 3 { reply.cut_after(10_000) } else { reply }
    });
    let error = rig.download(&server, Some(rig.length())).expect_err("cut thrice");
    assert!(matches!(error, FetchError::Cut { received: 30_000, .. }), "{error}");
    assert_eq!(rig.partial_length(), Some(30_000));
    assert_eq!(rig.download(&server, Some(rig.length())).expect("the rest"), rig.content);
    assert_eq!(server.ranges().last(), Some(&Some(30_000)));
    // A third run finds the file complete and sends no request.
    rig.download(&server, Some(rig.length())).expect("it is there");
    assert_eq!(server.ranges().len(), 4);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let rig = DownloadTest::new();
    fs::write(rig.partial(), &rig.content[..50_000]).expect("an earlier part");
    let content = rig.content.clone();
    let server = Server::start(move |_| Reply::whole(&content));
    assert_eq!(rig.download(&server, Some(rig.length())).expect("the whole"), rig.content);
    assert_eq!(server.ranges(), [Some(50_000)]);
}

#[test]
fn a_range_at_another_offset_is_not_used() {
    let rig = DownloadTest::new();
    fs::write(rig.partial(), &rig.content[..50_000]).expect("an earlier part");
    let content = rig.content.clone();
    let server = Server::start(move |request| match request.from {
        Some(from) => Reply::rest(&content, from + 1),
        None => Reply::whole(&content),
    });
    assert_eq!(rig.download(&server, Some(rig.length())).expect("the whole"), rig.content);
    assert_eq!(server.ranges(), [Some(50_000), None]);
}

#[test]
fn a_file_with_another_sha256_is_deleted() {
    let rig = DownloadTest::new();
    let mut content = rig.content.clone();
    content[77] ^= 1;
    let server = Server::start(move |_| Reply::whole(&content));
    let error = rig.download(&server, Some(rig.length())).expect_err("it is another file");
    assert!(matches!(error, FetchError::WrongHash { .. }), "{error}");
    assert_eq!(rig.partial_length(), None);
    assert_eq!(server.ranges().len(), 1, "asking again would bring the same");
}

#[test]
fn a_damaged_partial_file_costs_one_run() {
    let rig = DownloadTest::new();
    fs::write(rig.partial(), vec![0; 50_000]).expect("a part of something else");
    let content = rig.content.clone();
    let server = Server::start(move |request| {
        request.from.map_or_else(|| Reply::whole(&content), |from| Reply::rest(&content, from))
    });
    assert!(matches!(rig.download(&server, Some(rig.length())), Err(FetchError::WrongHash { .. })));
    assert_eq!(rig.download(&server, Some(rig.length())).expect("the whole"), rig.content);
}

#[test]
fn an_error_status_is_reported() {
    let rig = DownloadTest::new();
    for status in [404, 302, 500, 204] {
        let server = Server::start(move |_| Reply::status(status));
        let error = rig.download(&server, Some(rig.length())).expect_err("no file");
        assert!(matches!(error, FetchError::Status { status: said, .. } if said == status), "{error}");
        assert_eq!(server.ranges().len(), 1);
    }
}

#[test]
fn a_body_that_ends_early_is_an_error() {
    let rig = DownloadTest::new();
    let content = rig.content[..60_000].to_vec();
    let server = Server::start(move |request| match request.from {
        None => Reply::unmeasured(&content),
        Some(_) => Reply::status(416),
    });
    let error = rig.download(&server, Some(rig.length())).expect_err("it is short");
    assert!(matches!(error, FetchError::Cut { .. }), "{error}");
}

#[test]
fn an_endless_body_is_aborted_and_deleted() {
    let rig = DownloadTest::new();
    let server = Server::start(|_| Reply::endless());
    let error = rig.download(&server, Some(rig.length())).expect_err("too long");
    assert!(matches!(error, FetchError::TooLong { bytes_max: 100_000, .. }), "{error}");
    assert_eq!(rig.partial_length(), None);
}

#[test]
fn a_length_over_the_stated_one_is_refused_unread() {
    let rig = DownloadTest::new();
    let server = Server::start(|_| Reply::whole(&vec![0; 100_001]));
    assert!(matches!(rig.download(&server, Some(rig.length())), Err(FetchError::TooLong { .. })));
    assert!(rig.progress.begun.lock().is_empty());
}

#[test]
fn a_file_of_unknown_length_is_verified_by_its_sha256() {
    let rig = DownloadTest::new();
    let content = rig.content.clone();
    let server = Server::start(move |_| Reply::whole(&content));
    assert_eq!(rig.download(&server, None).expect("the file"), rig.content);
}

#[test]
fn nobody_there_is_said() {
    let rig = DownloadTest::new();
    let server = Server::start(|_| Reply::status(200));
    let url = server.url("/file");
    drop(server);
    let expected = ExpectedFile { url, sha256: FileHash::of(b""), bytes: Some(1) };
    let error = download::download(&expected, &rig.partial(), SILENCE_MAX, &NoProgress).expect_err("no server listens");
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
}

/// A catalogue with one package, `model`, and a server of its file.
struct TestCatalogue {
    catalogue: Catalogue,
    published: Vec<u8>,
    models: tempfile::TempDir,
    package: Package,
}

impl TestCatalogue {
    fn new() -> Self {
        let package = synthetic_package("model");
        let published = weights_of(&package);
        let mut manifest = package.manifest.clone();
        manifest.weights = vec![WeightsFile::plain("published.safetensors", FileHash::of(&published))];
        let file = PublishedFile { url: String::new(), bytes: published.len() as u64 };
        let entry = CatalogueEntry { starter: true, origin: WeightsOrigin::Published(vec![file]), manifest };
        let catalogue = Catalogue { entries: vec![entry] };
        Self { catalogue, published, models: tempfile::tempdir().expect("a folder"), package }
    }

    fn served(mut self) -> (Self, Server) {
        let published = self.published.clone();
        let server = Server::start(move |request| {
            request.from.map_or_else(|| Reply::whole(&published), |from| Reply::rest(&published, from))
        });
        self.set_url(0, server.url("/published.safetensors"));
        (self, server)
    }

    fn set_url(&mut self, file: usize, url: String) {
        let WeightsOrigin::Published(files) = &mut self.catalogue.entries[0].origin else { panic!("it is published") };
        files[file].url = url;
    }

    fn options(&self) -> FetchOptions {
        FetchOptions::new(self.models.path().to_owned(), None)
    }

    fn folder(&self) -> PathBuf {
        self.models.path().join("model")
    }

    fn pull(&self, progress: &dyn InstallProgress) -> Result<InstalledPackage, FetchError> {
        pull(&self.catalogue, "model", &self.options(), progress)
    }

    fn install(&self, source: &PackageSource) -> Result<InstalledPackage, FetchError> {
        install(source, &self.options(), &NoProgress)
    }

    /// The visible entries of the models folder.
    fn listing(&self) -> Vec<String> {
        let names = fs::read_dir(self.models.path()).expect("a folder");
        let names = names.map(|entry| entry.expect("listed").file_name().into_string().expect("a name"));
        names.filter(|name| !name.starts_with('.')).collect()
    }
}

fn weights_of(package: &Package) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    write_package(package, folder.path());
    fs::read(folder.path().join(WEIGHTS_FILE)).expect("written")
}

#[test]
fn pulling_installs_a_package_once() {
    let (catalogue_server, server) = TestCatalogue::new().served();
    let progress = RecordedProgress::default();
    let installed = catalogue_server.pull(&progress).expect("the server has it");
    assert_eq!((installed.outcome, installed.digest), (InstallOutcome::New, catalogue_server.package.digest));
    assert_eq!(*progress.described.lock(), [format!("model: {}", catalogue_server.package.manifest.licence)]);
    let loaded = load_installed(&installed.folder).expect("a sound package");
    assert_eq!(loaded.manifest.weights[0].file, WEIGHTS_FILE);
    assert_eq!(catalogue_server.pull(&progress).expect("it is there").outcome, InstallOutcome::AlreadyInstalled);
    assert_eq!((server.ranges().len(), progress.described.lock().len()), (1, 1));
    assert_eq!(catalogue_server.listing(), ["model"]);
    let partial = fs::read_dir(catalogue_server.models.path().join(ModelsFolderLock::PARTIAL)).expect("a folder");
    assert_eq!(partial.count(), 0, "the download was used up");
}

#[test]
fn a_pull_that_fails_installs_nothing() {
    let mut catalogue_server = TestCatalogue::new();
    let mut published = catalogue_server.published.clone();
    published[1000] ^= 1;
    let server = Server::start(move |_| Reply::whole(&published));
    catalogue_server.set_url(0, server.url("/"));
    assert!(matches!(catalogue_server.pull(&NoProgress), Err(FetchError::WrongHash { .. })));
    // The right file, but of another architecture.
    let (mut catalogue_server, _server) = TestCatalogue::new().served();
    let ModelKind::Encoder(encoder) = &mut catalogue_server.catalogue.entries[0].manifest.kind else {
        panic!("it is an encoder")
    };
    encoder.architecture = EncoderArchitecture::BuiltIn("osnet-x0.5".parse().expect("built in"));
    let error = catalogue_server.pull(&NoProgress).expect_err("the weights do not fit");
    assert!(matches!(error, FetchError::Package(PackageError::Network(_))), "{error}");
    assert_eq!(catalogue_server.listing(), [""; 0]);
}

#[test]
fn a_broken_installation_is_replaced() {
    let (catalogue_server, _server) = TestCatalogue::new().served();
    catalogue_server.pull(&NoProgress).expect("the server has it");
    fs::write(catalogue_server.folder().join(WEIGHTS_FILE), b"damaged").expect("writable");
    let leftover = catalogue_server.models.path().join(".incoming-model");
    fs::create_dir(&leftover).expect("of a process that died");
    fs::write(leftover.join("junk"), b"junk").expect("writable");
    let broken = verify(catalogue_server.models.path()).expect("listed");
    assert!(matches!(&broken[..], [VerifiedPackage { outcome: Err(PackageError::WrongHash { .. }), .. }]));
    assert_eq!(catalogue_server.pull(&NoProgress).expect("again").outcome, InstallOutcome::Replaced);
    let sound = verify(catalogue_server.models.path()).expect("listed");
    assert!(
        matches!(&sound[..], [VerifiedPackage { outcome: Ok(package), .. }] if package.digest == catalogue_server.package.digest)
    );
    assert!(!leftover.exists() && !catalogue_server.models.path().join(".outgoing").exists());
}

#[test]
fn the_mirror_replaces_the_network() {
    let mut catalogue_server = TestCatalogue::new();
    catalogue_server.set_url(0, "https://nowhere.invalid/published.safetensors".to_owned());
    let mirror = tempfile::tempdir().expect("a folder");
    let deep = mirror.path().join("some/where");
    fs::create_dir_all(&deep).expect("a folder");
    fs::write(mirror.path().join("same-length"), vec![0; catalogue_server.published.len()]).expect("writable");
    let options = FetchOptions { mirror: Some(mirror.path().to_owned()), ..catalogue_server.options() };
    let missing = pull(&catalogue_server.catalogue, "model", &options, &NoProgress).expect_err("not there yet");
    assert!(matches!(missing, FetchError::NotInMirror { .. }), "{missing}");
    fs::write(deep.join("another-name"), &catalogue_server.published).expect("writable");
    let installed = pull(&catalogue_server.catalogue, "model", &options, &NoProgress).expect("found by its sha256");
    assert_eq!(installed.digest, catalogue_server.package.digest);
    assert!(deep.join("another-name").exists(), "a mirror is only read");
}

/// The package in two published files; returns both with their bytes.
fn split(catalogue_server: &mut TestCatalogue) -> [(FileHash, Vec<u8>); 2] {
    let mut parts = [StateDict::default(), StateDict::default()];
    for (key, tensor) in catalogue_server.package.tensors().expect("tensors").iter() {
        parts[usize::from(key.starts_with("fc."))].insert(key.to_owned(), tensor.clone()).expect("a new name");
    }
    let files = parts.map(|part| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("part");
        part.write_safetensors(&path).expect("writable");
        let bytes = fs::read(path).expect("written");
        (FileHash::of(&bytes), bytes)
    });
    let entry = &mut catalogue_server.catalogue.entries[0];
    let names = ["body.safetensors", "head.safetensors"];
    entry.manifest.weights =
        names.iter().zip(&files).map(|(name, (hash, _))| WeightsFile::plain(name, *hash)).collect();
    let published = files.iter().map(|(_, bytes)| PublishedFile { url: String::new(), bytes: bytes.len() as u64 });
    entry.origin = WeightsOrigin::Published(published.collect());
    files
}

#[test]
fn a_package_of_several_files_is_installed_complete_or_not_at_all() {
    let mut catalogue_server = TestCatalogue::new();
    let [(body_hash, body), (_, head)] = split(&mut catalogue_server);
    let (body_server, head_server) = (
        Server::start(move |_| Reply::whole(&body)),
        Server::start(move |request| if request.number == 0 { Reply::status(503) } else { Reply::whole(&head) }),
    );
    catalogue_server.set_url(0, body_server.url("/body"));
    catalogue_server.set_url(1, head_server.url("/head"));
    let error = catalogue_server.pull(&NoProgress).expect_err("one file did not come");
    assert!(matches!(error, FetchError::Status { status: 503, .. }), "{error}");
    assert_eq!(catalogue_server.listing(), [""; 0]);
    assert!(
        catalogue_server.models.path().join(ModelsFolderLock::PARTIAL).join(body_hash.to_string()).exists(),
        "kept for another attempt"
    );
    let installed = catalogue_server.pull(&NoProgress).expect("the other came now");
    assert_eq!((installed.outcome, installed.digest), (InstallOutcome::New, catalogue_server.package.digest));
    assert_eq!(body_server.ranges().len(), 1, "what was there was not fetched again");
    assert_eq!(
        fs::read_dir(catalogue_server.models.path().join(ModelsFolderLock::PARTIAL)).expect("a folder").count(),
        0
    );
}

#[test]
fn every_file_of_a_package_is_found_in_the_mirror() {
    let mut catalogue_server = TestCatalogue::new();
    let [(_, body), (head_hash, head)] = split(&mut catalogue_server);
    let mirror = tempfile::tempdir().expect("a folder");
    fs::write(mirror.path().join("one"), body).expect("writable");
    let options = FetchOptions { mirror: Some(mirror.path().to_owned()), ..catalogue_server.options() };
    let missing = pull(&catalogue_server.catalogue, "model", &options, &NoProgress).expect_err("one of two");
    assert!(matches!(missing, FetchError::NotInMirror { sha256, .. } if sha256 == head_hash), "{missing}");
    assert_eq!(catalogue_server.listing(), [""; 0]);
    fs::write(mirror.path().join("other"), head).expect("writable");
    assert_eq!(
        pull(&catalogue_server.catalogue, "model", &options, &NoProgress).expect("both").digest,
        catalogue_server.package.digest
    );
}

#[test]
fn a_bundled_package_needs_no_network() {
    let catalogue_server = TestCatalogue::new();
    let folder = tempfile::tempdir().expect("a folder");
    let package = synthetic_package("shipped");
    write_package(&package, folder.path());
    let manifest = fs::read_to_string(folder.path().join(MANIFEST_FILE)).expect("written").leak();
    let weights = fs::read(folder.path().join(WEIGHTS_FILE)).expect("written").leak();
    let catalogue = Catalogue::parse("package = []", &[BundledPackage { manifest, weights }]).expect("a sound package");
    assert_eq!(catalogue.starters().count(), 1, "a new server gets it by itself");
    // Neither is used: no server listens, and the mirror does not exist.
    let options = FetchOptions { mirror: Some(folder.path().join("absent")), ..catalogue_server.options() };
    let installed = pull(&catalogue, "shipped", &options, &NoProgress).expect("it is here");
    assert_eq!((installed.outcome, installed.digest), (InstallOutcome::New, package.digest));
    let cut = BundledPackage { manifest, weights: &weights[..weights.len() - 1] };
    let catalogue = Catalogue::parse("package = []", &[cut]).expect("the manifest is sound");
    fs::remove_dir_all(installed.folder).expect("removable");
    let error = pull(&catalogue, "shipped", &options, &NoProgress).expect_err("other weights");
    assert!(matches!(error, FetchError::Package(PackageError::WrongHash { .. })), "{error}");
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let catalogue_server = TestCatalogue::new();
    let error =
        pull(&catalogue_server.catalogue, "modle", &catalogue_server.options(), &NoProgress).expect_err("a slip");
    assert!(error.to_string().ends_with("it has model"), "{error}");
}

#[test]
fn a_folder_is_installed_and_another_model_does_not_take_its_place() {
    let catalogue_server = TestCatalogue::new();
    let own = tempfile::tempdir().expect("a folder");
    let source = || PackageSource::parse(own.path().to_str().expect("UTF-8"), None).expect("a folder");
    let mut package = catalogue_server.package.clone();
    write_package(&package, own.path());
    assert_eq!(catalogue_server.install(&source()).expect("sound").outcome, InstallOutcome::New);
    assert_eq!(catalogue_server.install(&source()).expect("sound").outcome, InstallOutcome::AlreadyInstalled);
    package.manifest.licence = "another".to_owned();
    write_package(&package, own.path());
    assert_eq!(catalogue_server.install(&source()).expect("the same model").outcome, InstallOutcome::Replaced);
    assert_eq!(load_installed(&catalogue_server.folder()).expect("sound").manifest.licence, "another");

    write_package(&package.mirrored(), own.path());
    assert!(matches!(catalogue_server.install(&source()), Err(FetchError::OtherModel { .. })));
    let there = load_installed(&catalogue_server.folder()).expect("untouched");
    assert_eq!(there.digest, catalogue_server.package.digest);
}

#[test]
fn a_program_is_installed_from_a_folder_and_never_from_the_catalogue() {
    let (catalogue_server, own, progress) =
        (TestCatalogue::new(), tempfile::tempdir().expect("a folder"), RecordedProgress::default());
    let package = script_package("program", ProgramBehaviour::Sound);
    write_package(&package, own.path());
    let source = PackageSource::Folder(own.path().to_owned());
    let installed = install(&source, &catalogue_server.options(), &progress).expect("sound");
    assert_eq!((installed.outcome, installed.digest), (InstallOutcome::New, package.digest));
    assert_eq!(progress.described.lock().len(), 1, "the operator sees the description");
    let verified = verify(catalogue_server.models.path()).expect("listed");
    assert!(matches!(&verified[..], [VerifiedPackage { outcome: Ok(there), .. }] if there.digest == package.digest));

    write_package(&script_package("other", ProgramBehaviour::Dropout), own.path());
    let error = install(&source, &catalogue_server.options(), &NoProgress).expect_err("dropout is on");
    assert!(matches!(error, FetchError::Package(PackageError::Network(_))), "{error}");
    assert_eq!(catalogue_server.listing(), ["program"]);

    let manifest = fs::read_to_string(own.path().join(MANIFEST_FILE)).expect("written").leak();
    let offered = Catalogue::parse("package = []", &[BundledPackage { manifest, weights: b"" }]);
    assert!(matches!(offered, Err(PackageError::ProgramInCatalogue(_))));
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default()).expect("memory");
        zip.write_all(bytes).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

/// The manifest and the weights of a synthetic package.
fn members() -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    write_package(&synthetic_package("model"), folder.path());
    let read = |name| fs::read(folder.path().join(name)).expect("written");
    (read(MANIFEST_FILE), read(WEIGHTS_FILE))
}

#[test]
fn an_archive_has_a_package_at_its_top_or_in_one_folder() {
    let (manifest, weights) = members();
    for folder in ["", "model-1.0/"] {
        let catalogue_server = TestCatalogue::new();
        let (of_manifest, of_weights) = (format!("{folder}{MANIFEST_FILE}"), format!("{folder}{WEIGHTS_FILE}"));
        let zip = zip_of(&[(&of_manifest, &manifest), (&of_weights, &weights), ("README", b"hello")]);
        let path = catalogue_server.models.path().join(".upload.zip");
        fs::write(&path, zip).expect("writable");
        let source = PackageSource::parse(path.to_str().expect("UTF-8"), None).expect("a file");
        assert_eq!(source, PackageSource::Archive(path));
        assert_eq!(catalogue_server.install(&source).expect("sound").digest, catalogue_server.package.digest);
    }
}

#[test]
fn an_archive_is_downloaded_with_its_sha256() {
    let (manifest, weights) = members();
    let zip = zip_of(&[(MANIFEST_FILE, &manifest), (WEIGHTS_FILE, &weights)]);
    let sha256 = FileHash::of(&zip);
    let server = Server::start(move |_| Reply::whole(&zip));
    let (catalogue_server, url) = (TestCatalogue::new(), server.url("/model.zip"));
    assert!(matches!(PackageSource::parse(&url, None), Err(FetchError::NoHash { .. })));
    assert!(matches!(PackageSource::parse("http://example.org/a.zip", Some(sha256)), Err(FetchError::BadUrl { .. })));
    let wrong = PackageSource::parse(&url, Some(FileHash::of(b"other"))).expect("this machine");
    assert!(matches!(catalogue_server.install(&wrong), Err(FetchError::WrongHash { .. })));
    let source = PackageSource::parse(&url, Some(sha256)).expect("this machine");
    assert_eq!(catalogue_server.install(&source).expect("sound").outcome, InstallOutcome::New);
}

#[test]
fn archives_without_a_package_are_refused() {
    let (manifest, weights) = members();
    let read = |zip: Vec<u8>| archive::read(Cursor::new(zip)).expect_err("no package");
    let refused = |members: &[(&str, &[u8])]| {
        let error = read(zip_of(members));
        let FetchError::Archive(error) = error else { panic!("{error}") };
        error
    };
    for name in ["../model.toml", "/etc/passwd", "a/../../b", "a/../model.toml", "..\\model.toml"] {
        let error = refused(&[(MANIFEST_FILE, &manifest), (WEIGHTS_FILE, &weights), (name, b"")]);
        assert!(matches!(error, ArchiveError::Escapes(_)), "{name}: {error}");
    }
    assert!(matches!(refused(&[(WEIGHTS_FILE, &weights)]), ArchiveError::NoManifest));
    assert!(matches!(refused(&[("a/b/model.toml", &manifest)]), ArchiveError::NoManifest));
    assert!(matches!(refused(&[("old-model.toml", &manifest)]), ArchiveError::NoManifest));
    assert!(matches!(refused(&[("a/model.toml", &manifest), ("b/model.toml", &manifest)]), ArchiveError::NoManifest));
    assert!(matches!(refused(&[(MANIFEST_FILE, &manifest)]), ArchiveError::NoWeights(_)));
    assert!(matches!(refused(&[("m/model.toml", &manifest), (WEIGHTS_FILE, &weights)]), ArchiveError::NoWeights(_)));
    let names: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert!(matches!(refused(&many), ArchiveError::TooManyMembers(64)));
    // A zip bomb: a megabyte and one byte of spaces, compressed to a kilobyte.
    let bomb = vec![b' '; (1 << 20) + 1];
    assert!(matches!(refused(&[(MANIFEST_FILE, &bomb)]), ArchiveError::TooLarge { .. }));
    for garbage in [b"".to_vec(), b"PK\x03\x04".to_vec(), vec![0; 4096]] {
        assert!(matches!(read(garbage), FetchError::Archive(ArchiveError::Zip(_))));
    }
}
