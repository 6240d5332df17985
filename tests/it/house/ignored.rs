//! Tests that need something from outside the repository: each is ignored, says why, and is named for it. No test passes without
//! having run.

/// The two variables and the endings by which `tools/test.sh` selects tests.
const DATA: (&str, &str) = ("SEMBLANCE_TEST_DATA", "on_real_data");
const POSTGRES: (&str, &str) = ("SEMBLANCE_TEST_POSTGRES_URL", "on_postgres");

/// The line and the fault of each test of a source that is ignored wrongly or may pass without having run.
pub(super) fn faults(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut faults = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        if line.starts_with("#[ignore") {
            let wrong = wrong_reason(line, &path_of_test(&lines, at));
            faults.extend(wrong.map(|wrong| (at + 1, wrong)));
        }
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            let returns = early_return(&lines[at..]);
            faults.extend(returns.map(|after| (at + after + 1, "a test must not pass without having run".to_owned())));
        }
    }
    faults
}

/// The modules that the attribute stands in and the test's name, as far as the file shows them.
fn path_of_test(lines: &[&str], at: usize) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut depth = indent(lines[at]);
    let mut path = Vec::new();
    for line in lines[..at].iter().rev().filter(|line| !line.trim().is_empty() && indent(line) < indent(lines[at])) {
        if indent(line) < depth {
            depth = indent(line);
            path.extend(word_after(line, "mod "));
        }
    }
    path.reverse();
    path.extend(lines[at..].iter().find_map(|line| word_after(line, "fn ")));
    path
}

fn word_after(line: &str, keyword: &str) -> Option<String> {
    let rest = line.trim_start();
    let rest = rest.strip_prefix("pub(crate) ").unwrap_or(rest);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix(keyword)?;
    Some(rest.chars().take_while(|letter| letter.is_alphanumeric() || "_$".contains(*letter)).collect())
}

/// What is wrong with an `#[ignore]` of a test of this path.
fn wrong_reason(attribute: &str, path: &[String]) -> Option<String> {
    let reason = attribute.strip_prefix("#[ignore = \"needs ").and_then(|rest| rest.strip_suffix("\"]"));
    let needs: Vec<&str> = reason.unwrap_or_default().split(" and ").collect();
    if needs.iter().any(|need| ![DATA.0, POSTGRES.0].contains(need)) {
        return Some(format!("an ignored test needs {} or {}, and nothing else", DATA.0, POSTGRES.0));
    }
    // The name of a test that a macro makes is not in this line.
    let names = |ending: &str| path.iter().any(|name| name.ends_with(ending));
    let is_made_by_a_macro = path.last().is_some_and(|name| name.starts_with('$'));
    let (variable, ending) = [DATA, POSTGRES].into_iter().find(|(variable, ending)| {
        let needed = needs.contains(variable);
        needed != names(ending) && !(needed && is_made_by_a_macro && *variable == DATA.0)
    })?;
    Some(format!("a test that needs {variable}, and no other, stands in a module or has a name that ends in {ending}"))
}

/// The line of the test that returns where something is not there.
fn early_return(test: &[&str]) -> Option<usize> {
    let start = test.iter().position(|line| word_after(line, "fn ").is_some())?;
    if test[start].ends_with('}') {
        return None;
    }
    let indent = test[start].len() - test[start].trim_start().len();
    let closing = format!("{:indent$}}}", "");
    let end = test.iter().skip(start).position(|line| *line == closing).map_or(test.len(), |end| start + end);
    (start..end).find(|at| {
        let line = test[*at].trim();
        line.ends_with("else { return };") || line == "return;"
    })
}
