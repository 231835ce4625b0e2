use std::os::unix::fs::symlink;

use super::*;

fn patterns(all: &[&str]) -> Patterns {
    Patterns(all.iter().map(|&one| one.to_owned()).collect())
}

fn junit(pattern: &str) -> Reports {
    Reports { junit: patterns(&[pattern]), coverage: None }
}

const FAILED: &str = r#"<testsuite><testcase classname="cart" name="adds_up">
<failure message="expected hunter2, got hunter3">src/cart.rs:42</failure></testcase></testsuite>"#;

#[test]
fn files_are_found_by_pattern_and_never_through_links() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.xml"), FAILED).unwrap();
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for directory in ["reports/deep", ".git"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    for name in ["reports/b.xml", "reports/a.xml", "reports/deep/c.xml", "reports/a.txt", ".git/g.xml"] {
        std::fs::write(root.join(name), FAILED).unwrap();
    }
    symlink(outside.path().join("secret.xml"), root.join("reports/link.xml")).unwrap();
    symlink(outside.path(), root.join("reports/out")).unwrap();
    std::fs::create_dir(root.join("reports/directory.xml")).unwrap();
    rustix::fs::mknodat(CWD, root.join("reports/pipe.xml"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
        .unwrap();

    assert_eq!(find(&patterns(&["reports/*.xml"]), root), ["reports/a.xml", "reports/b.xml"]);
    assert_eq!(find(&patterns(&["**/*.xml", "!**/a.xml"]), root), ["reports/b.xml", "reports/deep/c.xml"]);
    assert!(find(&patterns(&["../**", "/etc/*"]), root).is_empty());

    // Also where it became a link after it was found.
    assert!(open(root, "reports/a.xml").is_ok());
    for name in
        ["reports/link.xml", "reports/out/secret.xml", "reports/pipe.xml", "../secret.xml", "/etc/passwd"]
    {
        assert!(open(root, name).is_err(), "{name}");
    }
}

#[test]
fn what_is_missing_or_broken_is_said_with_its_key() {
    let root = tempfile::tempdir().unwrap();
    let report = collect(&junit("reports/*.xml"), root.path(), &[]);
    assert_eq!(report.problems, ["reports.junit: no file matches reports/*.xml"]);
    assert_eq!(report.tests, None);

    std::fs::write(root.path().join("a.xml"), FAILED).unwrap();
    std::fs::write(root.path().join("b.xml"), "<testsuite>\n<oops").unwrap();
    let report = collect(&junit("*.xml"), root.path(), &[]);
    assert_eq!(report.tests.unwrap().failed, 1);
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].starts_with("reports.junit: b.xml: line 2: "), "{:?}", report.problems);

    std::fs::write(root.path().join("lcov.info"), "SF:a.rs\nDA:1,1\nend_of_record\n").unwrap();
    let coverage = |format| Reports {
        junit: Patterns::default(),
        coverage: Some(Coverage { format, files: patterns(&["lcov.info"]), at_least: Some(9_000) }),
    };
    let good = collect(&coverage(CoverageFormat::Lcov), root.path(), &[]);
    assert_eq!(good.summary(), "coverage 100.00 % of lines");
    let bad = collect(&coverage(CoverageFormat::Cobertura), root.path(), &[]);
    assert_eq!(bad.coverage, None);
    assert!(bad.problems[0].starts_with("reports.coverage.cobertura: lcov.info: "), "{:?}", bad.problems);
}

#[test]
fn secrets_do_not_come_in_through_reports() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.xml"), FAILED).unwrap();
    let report = collect(&junit("*.xml"), root.path(), &[Secret::new("hunter2".to_owned())]);
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("hunter2") && text.contains("hunter3"), "{text}");
}
