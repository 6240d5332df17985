//! The import table of docs/ARCHITECTURE.md, the only one of the project: the packages, the modules of the root package, and
//! what each may import.

use std::{fs, path::Path, sync::LazyLock};

const ARCHITECTURE: &str = include_str!("../../../docs/ARCHITECTURE.md");

struct Row {
    name: &'static str,
    is_package: bool,
    imports: &'static str,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let table = ARCHITECTURE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = table.filter_map(|line| match line.split('|').map(str::trim).collect::<Vec<_>>()[..] {
        [names, _task, imports] if names.contains('`') => Some((names, imports)),
        _ => None,
    });
    rows.flat_map(|(names, imports)| {
        let is_package = !names.starts_with("root:");
        // Names stand between backticks.
        names.split('`').skip(1).step_by(2).map(move |name| Row { name, is_package, imports })
    })
    .collect()
});

/// Whether it is a package below `src/`.
pub(super) fn is_package(name: &str) -> bool {
    ROWS.iter().any(|row| row.is_package && row.name == name)
}

/// The modules of the root package; `lib` declares them and imports nothing.
pub(super) fn modules() -> Vec<&'static str> {
    ROWS.iter().filter(|row| !row.is_package).map(|row| row.name).chain(["lib"]).collect()
}

/// What a module of the root package may import besides itself.
pub(super) fn imports_of(module: &str) -> Option<Vec<&'static str>> {
    if module == "lib" {
        return Some(Vec::new());
    }
    let row = ROWS.iter().find(|row| !row.is_package && row.name == module)?;
    Some(match row.imports {
        "all" => ROWS.iter().map(|row| row.name).filter(|name| ![module, "main"].contains(name)).collect(),
        imports => imports.split(", ").filter(|name| !name.is_empty()).collect(),
    })
}

#[test]
fn the_manifests_of_the_packages_name_the_imports_of_the_table() {
    let packages: Vec<&Row> = ROWS.iter().filter(|row| row.is_package).collect();
    assert!(packages.len() > 10, "the table was not read");
    for row in packages {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(row.name).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, rest) = manifest.split_once("[dependencies]").unwrap_or_default();
        let dependencies = rest.split("\n[").next().unwrap_or_default().lines();
        let imports: Vec<&str> = dependencies
            .filter_map(|line| line.strip_suffix(".workspace = true"))
            .filter(|name| is_package(name))
            .collect();
        assert_eq!(imports.join(", "), row.imports, "{}", row.name);
    }
}
