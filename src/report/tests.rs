//! The dialects of real test runners, and documents that mean harm.

use proptest::prelude::*;

use super::*;
use crate::run::report::Tests;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/reports");

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{DATA}/{name}")).unwrap()
}

fn junit(bytes: &[u8]) -> Result<Tests, Error> {
    let mut cases = Cases::default();
    cases.read(bytes, "/build/shop")?;
    Ok(cases.finish(str::to_owned))
}

fn said(tests: &Tests) -> String {
    let mut out = format!("{}\n", tests.summary());
    for failure in &tests.failures {
        out += &format!("{failure}\n");
    }
    for slow in &tests.slowest {
        out +=
            &format!("{} ms {}\n", slow.milliseconds, crate::run::report::full_name(&slow.suite, &slow.name));
    }
    out
}

#[test]
fn the_dialects_of_test_runners() {
    let read = |name| said(&junit(&sample(name)).unwrap());
    insta::assert_snapshot!(read("pytest.xml"), @r#"
    1 passed, 1 failed, 1 broken, 1 skipped in 0.2 s
    tests.test_cart::test_adds_up[2-1] (tests/test_cart.py:14): AssertionError: expected 3, got 2
    tests.test_cart::test_stock (tests/conftest.py:6): failed on setup with "ConnectionError: no stock"
    201 ms tests.test_cart::test_adds_up[2-1]
    12 ms tests.test_cart::test_stock
    1 ms tests.test_cart::test_empty
    "#);
    insta::assert_snapshot!(read("nextest.xml"), @r#"
    2 passed, 1 failed in 0.5 s
    shop::cart::adds_up (src/cart.rs:42): assertion `left == right` failed
    510 ms shop::cart::adds_up
    18 ms shop::stock::counts
    4 ms shop::cart::is_empty
    "#);
    insta::assert_snapshot!(read("surefire.xml"), @r#"
    1 passed, 1 failed, 1 broken, 1 skipped in 1230.5 s
    com.acme.CartTest::addsUp (CartTest.java:42): expected: <3> but was: <2>
    com.acme.CartTest::stock (CartTest.java:50): java.lang.NullPointerException
    1230500 ms com.acme.CartTest::isEmpty
    12 ms com.acme.CartTest::addsUp
    1 ms com.acme.CartTest::stock
    "#);
    insta::assert_snapshot!(read("jest.xml"), @r#"
    1 passed, 1 failed in 7 ms
    Cart adds up (src/cart.test.js:5): Error: expect(received).toBe(expected)
    5 ms Cart adds up
    2 ms Cart is empty
    "#);
    insta::assert_snapshot!(read("go-junit-report.xml"), @r#"
    1 passed, 1 failed, 1 skipped in 2 ms
    example.org/shop/cart::TestAddsUp (cart_test.go:42): expected 3, got 2
    2 ms example.org/shop/cart::TestAddsUp
    "#);
    insta::assert_snapshot!(read("gtest.xml"), @r#"
    2 passed, 2 failed, 2 skipped in 31 ms
    Cart::AddsUp (test/cart_test.cc:12): Expected equality of these values:
    Cart/Prices::Price (test/cart_test.cc:30): Value of: price > 0
    30 ms Cart::AddsUp
    1 ms Cart/Prices::Price
    "#);
}

#[test]
fn several_files_are_one_report() {
    let mut cases = Cases::default();
    for name in ["pytest.xml", "nextest.xml", "gtest.xml"] {
        cases.read(&sample(name), "").unwrap();
    }
    assert_eq!(
        cases.read(b"<testsuite><testcase name='a'/><oops", ""),
        cases.read(b"<testsuite><testcase name='a'/><oops", "")
    );
    let tests = cases.finish(str::to_owned);
    assert_eq!(tests.files, 3, "a broken file counts as none");
    assert_eq!((tests.total(), tests.failures.len()), (13, 5));
    assert!(tests.slowest.is_sorted_by_key(|slow| std::cmp::Reverse(slow.milliseconds)));
}

#[test]
fn counts_come_from_the_cases() {
    let lies = r#"<testsuites tests="900" failures="0"><testsuite tests="7" failures="0" name="outer">
        <testsuite name="inner"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>
        <testcase name="c"><skipped/></testcase>
        <error message="no database"/>
        </testsuite></testsuites>"#;
    let tests = junit(lies.as_bytes()).unwrap();
    assert_eq!((tests.passed, tests.failed, tests.errors, tests.skipped), (1, 1, 1, 1));
    assert_eq!(tests.failures[0].to_string(), "inner::b");
    assert_eq!(tests.failures[1].to_string(), "outer::(outside its test cases): no database");
}

#[test]
fn what_is_kept_is_bounded() {
    let mut text = "<testsuite>".to_owned();
    for n in 0..500 {
        let long = "x".repeat(5_000);
        text += &format!(
            "<testcase name='{n}{long}' time='{n}'><failure message='{long}'>{long}</failure></testcase>"
        );
    }
    text += "</testsuite>";
    let tests = junit(text.as_bytes()).unwrap();
    assert_eq!((tests.failed, tests.failures.len(), tests.slowest.len()), (500, FAILURES_KEPT, SLOWEST_KEPT));
    assert!(tests.failures.iter().all(|failure| failure.message.chars().count() == MESSAGE_KEPT));
    assert!(tests.slowest[0].name.starts_with("499xxx") && tests.slowest[0].name.chars().count() == 300);
}

#[test]
fn secrets_are_masked_before_texts_are_cut() {
    let long = format!("{}hunter2", "x".repeat(MESSAGE_KEPT - 4));
    let text = format!("<testsuite><testcase name='a'><failure message='{long}'/></testcase></testsuite>");
    let mut cases = Cases::default();
    cases.read(text.as_bytes(), "").unwrap();
    let tests = cases.finish(|text| text.replace("hunter2", "***"));
    assert!(tests.failures[0].message.ends_with("x***"), "{:?}", &tests.failures[0].message[1_980..]);
}

#[test]
fn colours_controls_and_broken_bytes_are_taken_out() {
    let bytes = b"<testsuite><testcase name='a\x07b&#27;[31mc\xff'><failure>\x1b[31mred\x1b[0m &#0;&#x1F600;\xe2\x80\xae!</failure></testcase></testsuite>";
    let tests = junit(bytes).unwrap();
    assert_eq!(tests.failures[0].name, "abc\u{fffd}");
    assert_eq!(tests.failures[0].message, "red \u{fffd}😀!");
}

#[test]
fn hostile_documents_are_refused() {
    let refused = |text: &str| junit(text.as_bytes()).unwrap_err().to_string();
    let bomb = r#"<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]><testsuite>&b;</testsuite>"#;
    assert!(refused(bomb).starts_with("it has a document type"));
    assert!(
        refused("<!DOCTYPE testsuite SYSTEM 'file:///etc/passwd'><testsuite/>")
            .starts_with("it has a document type")
    );
    let entity = "<testsuite>\n<testcase><failure>&xxe;</failure></testcase></testsuite>";
    assert_eq!(
        refused(entity),
        "line 2: &xxe; is an entity that XML does not have by itself; no others are read"
    );
    let deep = "<testsuite>".repeat(1_000);
    assert_eq!(refused(&deep), "line 1: its elements are nested deeper than 100");
    assert_eq!(
        refused("<html></html>"),
        "it is no JUnit XML: it begins with <html> instead of <testsuites> or <testsuite>"
    );
    assert_eq!(refused(""), "it is empty");
    assert_eq!(refused("just text"), "line 1: it is no XML: it has no element");
    assert_eq!(refused("<testsuite>\n\n<testcase>"), "line 3: it ends in the middle");
    assert!(refused("<testsuite><testcase></testsuite>").starts_with("line 1: "));
    assert!(refused("<testsuite/><testsuite/>").contains("a second document begins"));
    assert!(refused("<testsuite><testcase><testcase/></testcase></testsuite>").contains("inside a testcase"));
    assert_eq!(
        refused("<?xml version='1.0' encoding='ISO-8859-1'?><testsuite/>"),
        "it is written in ISO-8859-1; only UTF-8 is read"
    );
    let utf16: Vec<u8> = "\u{feff}<testsuite/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(junit(&utf16), Err(Error::Encoding("UTF-16".to_owned())));
    assert!(junit(b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?><testsuite/>").is_ok());
}

#[test]
fn large_documents_take_time_in_proportion() {
    // Each of these takes minutes where something walks over it again for each of its pieces.
    let attributes: String = (0..200_000).map(|n| format!(" a{n}='1'")).collect();
    assert!(junit(format!("<testsuite{attributes}/>").as_bytes()).is_ok());
    let references = "&lt;".repeat(500_000);
    let text = format!("<testsuite><testcase><failure>{references}</failure></testcase></testsuite>");
    assert_eq!(junit(text.as_bytes()).unwrap().failed, 1);
    let quotes = "File \"".repeat(300_000);
    let text = format!(
        "<testsuite><testcase><failure>{quotes}{}</failure></testcase></testsuite>",
        ":".repeat(300_000)
    );
    assert_eq!(junit(text.as_bytes()).unwrap().failed, 1);
}

#[test]
fn lcov_is_merged_by_line() {
    let mut lines = Lines::default();
    lines.lcov(&sample("lcov.info")).unwrap();
    let coverage = lines.finish(None);
    assert_eq!((coverage.lines, coverage.covered), (4 + 10, 3 + 7));

    let refused = |text: &str| Lines::default().lcov(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused("nothing"), "it is no LCOV: it has no line that begins with SF:");
    assert_eq!(refused("SF:a\nDA:1,1\n"), "it is no LCOV: it ends in the middle of a record");
    assert_eq!(refused("SF:a\nDA:x,1\nend_of_record\n"), "line 2: “DA:x,1” is no record of LCOV");
    assert_eq!(refused("DA:1,1\n"), "line 1: “DA:1,1” is no record of LCOV");
}

#[test]
fn cobertura_is_merged_by_file_and_line() {
    let mut lines = Lines::default();
    lines.cobertura(&sample("cobertura.xml")).unwrap();
    let coverage = lines.finish(Some(9_000));
    assert_eq!((coverage.lines, coverage.covered, coverage.share()), (5, 4, 8_000));

    let refused = |text: &str| Lines::default().cobertura(text.as_bytes()).unwrap_err().to_string();
    assert!(refused("<testsuite/>").contains("<testsuite> instead of <coverage>"));
    assert!(refused("<coverage><class/></coverage>").contains("a class without a filename"));
    assert!(
        refused("<coverage><class filename='a'><line number='-1' hits='0'/></class></coverage>")
            .starts_with("line 1: a line")
    );
    let inside = "<!DOCTYPE coverage [<!ENTITY x 'y'>]><coverage/>";
    assert!(refused(inside).starts_with("it has a document type"));
    assert!(
        Lines::default().cobertura(b"<!DOCTYPE coverage SYSTEM 'http://localhost/x.dtd'><coverage/>").is_ok()
    );
}

#[test]
fn places_in_texts() {
    let find = |text: &str, hints: &[&str]| place::find(text, hints, "/build/shop");
    let found = |text: &str| find(text, &[]).unwrap_or_default();
    assert_eq!(found("panicked at src/cart.rs:42:5:"), "src/cart.rs:42");
    assert_eq!(found("    cart_test.go:12: expected 3"), "cart_test.go:12");
    assert_eq!(found("at /rustc/ab/library/core.rs:1:2\nat ./src/a.rs:3:4"), "src/a.rs:3");
    assert_eq!(found("  File \"/build/shop/cart.py\", line 7, in add"), "cart.py:7");
    assert_eq!(found("at Object.<anonymous> (/build/shop/src/cart.test.js:5:17)"), "src/cart.test.js:5");
    let java = "at com.acme.Assert.fail(Assert.java:89)\nat com.acme.CartTest.adds(CartTest.java:42)";
    assert_eq!(find(java, &["com.acme.CartTest"]).unwrap(), "CartTest.java:42");
    for text in
        ["http://localhost:80", "example.com:443", "1.2:3", "a.rs:0", "a.rs:", ".rs:3", "a.rs:99999999999"]
    {
        assert_eq!(find(text, &[]), None, "{text}");
    }
}

/// Bytes that look like a report for a while.
fn almost_a_report() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "<testsuites>",
        "<testsuite name='a'>",
        "</testsuite>",
        "<testcase name='b' time='1,0.5'>",
        "</testcase>",
        "<failure message='&#10;&lt;'>",
        "</failure>",
        "<error/>",
        "<skipped/>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "&#0;",
        "&lt;",
        "&",
        "src/a.rs:42",
        "\u{1b}[31",
        "<?xml version='1.0'",
        "?>",
        "<coverage>",
        "<class filename='a'>",
        "<line number='1' hits='2'/>",
        "</class>",
        "<!DOCTYPE a [",
        "SF:a\n",
        "DA:1,2\n",
        "end_of_record\n",
        "'",
        "\"",
        "ä€😀",
    ]);
    let piece = prop_oneof![
        6 => pieces.prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_bytes_panic(bytes in prop_oneof![almost_a_report(), prop::collection::vec(any::<u8>(), 0..200)]) {
        let _ = junit(&bytes);
        let mut lines = Lines::default();
        let _ = lines.lcov(&bytes);
        let _ = lines.cobertura(&bytes);
        prop_assert!(lines.finish(None).share() <= 10_000);
    }
}
