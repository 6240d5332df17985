//! Files of boxes: the persons in each frame, and the detections.

use std::path::Path;

use super::{
    EvaluateError,
    metrics::{self, NamedBox},
    names::TextTable,
    report::Results,
};

/// The columns of a box in pixels.
const SIDES: [&str; 4] = ["left", "top", "right", "bottom"];

/// Tables with the columns frame, identity, left, top, right and bottom; detections also have score.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxFiles {
    there: Vec<NamedBox>,
    detections: Vec<(NamedBox, f32)>,
}

impl BoxFiles {
    /// # Errors
    /// When a file cannot be read or a row is malformed.
    pub fn read(there: &Path, detections: &Path) -> Result<Self, EvaluateError> {
        let (truth, found) = (TextTable::read(there)?, TextTable::read(detections)?);
        let there = seen(&truth)?;
        let score = found.column("score")?;
        let scores =
            found.rows.iter().map(|(row, line)| found.number(&row[score], *line)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { there, detections: seen(&found)?.into_iter().zip(scores).collect() })
    }

    pub(super) fn len(&self) -> usize {
        self.detections.len()
    }

    pub(super) fn measure(&self) -> Results {
        Results::Detection(metrics::detection(&self.there, &self.detections))
    }
}

fn seen(table: &TextTable) -> Result<Vec<NamedBox>, EvaluateError> {
    let [frame, identity] = [table.column("frame")?, table.column("identity")?];
    let sides = SIDES.map(|side| table.column(side));
    let mut places = [0; 4];
    for (place, side) in places.iter_mut().zip(sides) {
        *place = side?;
    }
    let seen = |(row, line): &(Vec<String>, u64)| {
        let mut sides = [0.0; 4];
        for (side, place) in sides.iter_mut().zip(places) {
            *side = f64::from(table.number(&row[place], *line)?);
        }
        if sides[0] >= sides[2] || sides[1] >= sides[3] {
            return Err(table.wrong(format!("line {line}: the box ends before it begins")));
        }
        Ok(NamedBox { frame: row[frame].clone(), identity: row[identity].clone(), place: sides })
    };
    table.rows.iter().map(seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(there: &str, detections: &str) -> Result<BoxFiles, EvaluateError> {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["there.csv", "found.csv"].map(|name| folder.path().join(name));
        for (path, text) in paths.iter().zip([there, detections]) {
            std::fs::write(path, text).expect("written");
        }
        BoxFiles::read(&paths[0], &paths[1])
    }

    const THERE: &str = "frame,identity,left,top,right,bottom\n1,ann,0,0,10,10\n1,bob,20,0,30,10\n";

    #[test]
    fn boxes_are_read_and_measured() {
        let found = "score,frame,identity,left,top,right,bottom\n.9,1,ann,0,0,10,9\n.8,1,ann,20,0,30,10\n";
        let Results::Detection(measured) = files(THERE, found).expect("files").measure() else { panic!("boxes") };
        assert!((measured.average_precision - 0.5).abs() < 1e-12, "{measured:?}");
        assert!((measured.without_names - 1.0).abs() < 1e-12, "{measured:?}");
    }

    #[test]
    fn invalid_boxes_are_refused_with_the_line() {
        let head = "frame,identity,left,top,right,bottom,score\n";
        for (row, expected) in [
            ("1,ann,0,0,x,10,.5\n", "line 2: \"x\" is not a finite number"),
            ("1,ann,0,0,10,10,NaN\n", "line 2: \"NaN\" is not a finite number"),
            ("1,ann,9,0,9,10,.5\n", "line 2: the box ends before it begins"),
        ] {
            let problem = files(THERE, &format!("{head}{row}")).expect_err(row).to_string();
            assert!(problem.contains(expected), "{problem}");
        }
        assert!(files(THERE, THERE).expect_err("no score").to_string().contains("no column \"score\""));
    }
}
