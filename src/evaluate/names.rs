//! The person of a sample, from its name or from a table.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{EvaluateError, labelled::SampleIdentity};

/// How to derive the person from a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonRule {
    /// The name is the person.
    Same,
    /// Labeled Faces in the Wild: `Name_Surname_0001.jpg`; the person is the name without its number.
    Lfw,
    /// Market-1501: `PPPP_cCsS_FFFFFF_00.jpg`; the person is the first four characters, the camera a label.
    Market,
    /// CASIA-B: `PPP-cc-NN-VVV`; labels are condition (nm, bg, cl), run, view, and role: `gallery` for the first four
    /// normal walks and `probe` for the others.
    CasiaB,
    /// Tab-separated values, or comma-separated in `.csv`: columns `name` and `person`; every other column is a label.
    Table(PathBuf),
}

impl FromStr for PersonRule {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "same" => Self::Same,
            "lfw" => Self::Lfw,
            "market" => Self::Market,
            "casia-b" => Self::CasiaB,
            path => Self::Table(path.into()),
        })
    }
}

impl PersonRule {
    /// Person and labels of samples by name, with or without file ending.
    ///
    /// # Errors
    /// When a name does not match the rule, or the table cannot be read or lacks it.
    pub fn known(&self, names: &[String]) -> Result<Vec<SampleIdentity>, EvaluateError> {
        match self {
            Self::Same => Ok(names.iter().map(|name| known(name, name, BTreeMap::new())).collect()),
            Self::Lfw => names.iter().map(|name| lfw(name)).collect(),
            Self::Market => names.iter().map(|name| market(name)).collect(),
            Self::CasiaB => names.iter().map(|name| casia_b(name)).collect(),
            Self::Table(path) => {
                let mut table = table(path)?;
                let lost = |name: &str| EvaluateError::Layout {
                    path: path.clone(),
                    problem: format!("it has no row for {name:?}"),
                };
                names.iter().map(|name| table.remove(name.as_str()).ok_or_else(|| lost(name))).collect()
            }
        }
    }
}

fn known(name: &str, person: &str, labels: BTreeMap<String, String>) -> SampleIdentity {
    SampleIdentity { name: name.to_owned(), person: person.to_owned(), labels }
}

fn lfw(name: &str) -> Result<SampleIdentity, EvaluateError> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let person = stem.rsplit_once('_').filter(|(person, number)| {
        !person.is_empty() && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    });
    match person {
        Some((person, _)) => Ok(known(name, person, BTreeMap::new())),
        None => Err(EvaluateError::Unusable(format!("{name:?} is not named as in LFW, Name_Surname_0001.jpg"))),
    }
}

/// Person and camera from a crop's name.
pub(super) fn market(name: &str) -> Result<SampleIdentity, EvaluateError> {
    let parts = name.split_once("_c").and_then(|(person, rest)| Some((person, rest.split_once('s')?.0)));
    match parts {
        Some((person, camera)) if !person.is_empty() => {
            Ok(known(name, person, BTreeMap::from([("camera".to_owned(), camera.to_owned())])))
        }
        _ => Err(EvaluateError::Unusable(format!("{name:?} is not named as in Market-1501, PPPP_cCsS_FFFFFF_00.jpg"))),
    }
}

fn casia_b(name: &str) -> Result<SampleIdentity, EvaluateError> {
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let parts: Vec<&str> = stem.split('-').collect();
    match parts[..] {
        [person, condition, run, view] if parts.iter().all(|part| !part.is_empty()) => {
            let is_gallery = condition == "nm" && ["01", "02", "03", "04"].contains(&run);
            let role = if is_gallery { "gallery" } else { "probe" };
            let labels = [("condition", condition), ("run", run), ("view", view), ("role", role)];
            Ok(known(name, person, labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()))
        }
        _ => Err(EvaluateError::Unusable(format!("{name:?} is not named as in CASIA-B, 001-nm-01-090"))),
    }
}

fn table(path: &Path) -> Result<HashMap<String, SampleIdentity>, EvaluateError> {
    let table = TextTable::read(path)?;
    let [name, person] = [table.column("name")?, table.column("person")?];
    let mut found = HashMap::new();
    for (row, line) in &table.rows {
        let labels = table.labels_of(row, &[name, person]);
        if found.insert(row[name].clone(), known(&row[name], &row[person], labels)).is_some() {
            return Err(table.wrong(format!("line {line} names {:?} a second time", row[name])));
        }
    }
    Ok(found)
}

/// A text table with a header.
#[derive(Debug)]
pub(super) struct TextTable {
    path: PathBuf,
    pub(super) head: Vec<String>,
    /// Rows with their first line number.
    pub(super) rows: Vec<(Vec<String>, u64)>,
}

impl TextTable {
    /// # Errors
    /// When it cannot be read, a row's number of fields differs from the header, or there is no row.
    pub(super) fn read(path: &Path) -> Result<Self, EvaluateError> {
        let by_commas = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        let bytes = super::files::read(path)?;
        let mut reader =
            csv::ReaderBuilder::new().delimiter(if by_commas { b',' } else { b'\t' }).from_reader(bytes.as_slice());
        let wrong = |error: csv::Error| EvaluateError::Layout { path: path.to_owned(), problem: error.to_string() };
        let head: Vec<String> = reader.headers().map_err(wrong)?.iter().map(|name| name.trim().to_owned()).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, csv::Position::line);
            rows.push((record.iter().map(|field| field.trim().to_owned()).collect(), line));
        }
        let table = Self { path: path.to_owned(), head, rows };
        if table.rows.is_empty() { Err(table.wrong("it has no rows".to_owned())) } else { Ok(table) }
    }

    /// The index of a column.
    pub(super) fn column(&self, name: &str) -> Result<usize, EvaluateError> {
        self.head.iter().position(|column| column == name).ok_or_else(|| {
            let separated =
                if self.head.len() == 1 { "; columns are separated by tabs, in .csv by commas" } else { "" };
            self.wrong(format!("it has no column {name:?} but {:?}{separated}", self.head))
        })
    }

    /// The other fields of a row by column name, without empty ones.
    pub(super) fn labels_of(&self, row: &[String], without: &[usize]) -> BTreeMap<String, String> {
        let fields = self.head.iter().zip(row).enumerate().filter(|(place, _)| !without.contains(place));
        fields
            .filter(|(_, (_, value))| !value.is_empty())
            .map(|(_, (name, value))| (name.clone(), value.clone()))
            .collect()
    }

    /// Parses a finite number.
    pub(super) fn number(&self, field: &str, line: u64) -> Result<f32, EvaluateError> {
        let number = field.parse::<f32>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| self.wrong(format!("line {line}: {field:?} is not a finite number")))
    }

    pub(super) fn wrong(&self, problem: String) -> EvaluateError {
        EvaluateError::Layout { path: self.path.clone(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn written(ending: &str, text: &str) -> (tempfile::TempDir, PersonRule) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(format!("people.{ending}"));
        std::fs::write(&path, text).expect("written");
        (folder, PersonRule::Table(path))
    }

    #[test]
    fn names_of_the_sets() {
        let lfw = PersonRule::Lfw.known(&names(&["Aaron_Peirsol_0001.jpg", "Abdel_Al_0012"])).expect("people");
        assert_eq!((&*lfw[0].person, &*lfw[1].person), ("Aaron_Peirsol", "Abdel_Al"));
        let market = PersonRule::Market.known(&names(&["0003_c4s6_015641_00.jpg"])).expect("a person");
        assert_eq!((&*market[0].person, &*market[0].labels["camera"]), ("0003", "4"));
        let casia = PersonRule::CasiaB.known(&names(&["001-nm-04-090.json", "124-cl-01-000"])).expect("people");
        let described =
            |known: &SampleIdentity| ["condition", "view", "role"].map(|label| known.labels[label].clone()).join(" ");
        assert_eq!((&*casia[0].person, described(&casia[0])), ("001", "nm 090 gallery".to_owned()));
        assert_eq!((&*casia[1].person, described(&casia[1])), ("124", "cl 000 probe".to_owned()));
        for (rule, name) in [
            (PersonRule::Lfw, "Aaron.jpg"),
            (PersonRule::Lfw, "a_b.jpg"),
            (PersonRule::Market, "3.jpg"),
            (PersonRule::CasiaB, "001-nm-01"),
        ] {
            assert!(rule.known(&names(&[name])).is_err(), "{name}");
        }
        assert_eq!(PersonRule::Same.known(&names(&["x"])).expect("named")[0].person, "x");
    }

    #[test]
    fn tables_give_people_and_labels() {
        let (_folder, rule) = written("tsv", "person\tname\tsite\tgap\nann\t1.jpg\tnorth\t\nbob\t2.jpg\tsouth\t7\n");
        let known = rule.known(&names(&["2.jpg", "1.jpg"])).expect("both are there");
        assert_eq!((&*known[0].person, &*known[0].labels["gap"]), ("bob", "7"));
        assert!(!known[1].labels.contains_key("gap"), "an empty field is no label");
        let (_folder, rule) = written("csv", "name,person\n\"a, b\",ann\n");
        assert_eq!(rule.known(&names(&["a, b"])).expect("quoted")[0].person, "ann");
    }

    #[test]
    fn invalid_tables_are_refused_with_the_line() {
        for (text, ask, expected) in [
            ("name\tperson\n1.jpg\tann\n2.jpg\n", "1.jpg", "line: 3"),
            ("name\tperson\n", "1.jpg", "no rows"),
            ("name\twho\n1.jpg\tann\n", "1.jpg", "no column \"person\""),
            ("name,person\n1.jpg,ann\n", "1.jpg", "separated by tabs"),
            ("name\tperson\n1.jpg\tann\n1.jpg\tbob\n", "1.jpg", "line 3 names \"1.jpg\" a second time"),
            ("name\tperson\n1.jpg\tann\n", "2.jpg", "no row for \"2.jpg\""),
        ] {
            let (_folder, rule) = written("tsv", text);
            let problem = rule.known(&names(&[ask])).expect_err(text).to_string();
            assert!(problem.contains(expected), "{problem}");
        }
        let missing = PersonRule::Table("no/such.tsv".into()).known(&names(&["x"]));
        assert!(matches!(missing, Err(EvaluateError::Unreadable { .. })));
    }
}
