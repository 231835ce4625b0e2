//! Large inputs: what takes more time than in proportion to its length takes minutes here, and fails.

use crate::harness;
use crate::targets::{self, Target};

/// About so many bytes.
const SIZE: usize = 200_000;

/// So often that it comes to `SIZE`.
fn many(text: &str) -> String {
    text.repeat(SIZE / text.len())
}

fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let long = "n".repeat(60_000);
    let mut all: Vec<(&'static str, String)> = vec![
        ("lcov", format!("SF:{}\n{}end_of_record\n", many("n"), "DA:1,1\n".repeat(SIZE / 7))),
        (
            "cobertura",
            format!(
                "<coverage><class filename='{long}'>{}</class></coverage>",
                many("<line number='1' hits='1'/>")
            ),
        ),
        ("cobertura", format!("<coverage><class {}filename='a'/></coverage>", many("a='1' "))),
        ("junit", format!("<testsuite name='{long}'>{}</testsuite>", many("<testcase time='1'/>"))),
        (
            "junit",
            format!("<testsuite><testcase><failure>{}</failure></testcase></testsuite>", many("&lt;a.rs:1")),
        ),
        ("junit", many("<testsuite>")),
        (
            "pipeline",
            format!("name: p\nstages: {{ a: {{ needs: [{}], steps: [{{ run: x }}] }} }}\n", many("bb, ")),
        ),
        (
            "pipeline",
            format!("name: p\nstages: {{ a: {{ steps: [{{ run: \"{}\" }}] }} }}\n", many("${{ a }} ")),
        ),
        (
            "pipeline",
            format!("name: p\nstages:\n{}", numbered("  s#: { needs: [t], steps: [{ run: x }] }\n")),
        ),
        ("pipeline", format!("name: p\n{}", numbered("key#: 1\n"))),
        ("pipeline", many("[")),
        ("pipeline", many("{a: ")),
        ("pipeline", many("- ")),
        ("pipeline", many("? ")),
        ("pipeline", many("a: b: ")),
        ("pipeline", format!("a: [{}", many("'x', "))),
        ("pipeline", format!("a: &a [x]\nb: [{}]", many("*a, "))),
        ("pipeline", format!("a: \"{}", many("\\u0041"))),
        ("pipeline", format!("a: {}", many("x\n  "))),
        ("pipeline", many("#\n")),
        (
            "settings",
            format!(
                "environments:\n{}",
                numbered("  e#: { group: other, fleets: { s: { size: 1, port: # } } }\n")
            ),
        ),
        ("settings", format!("people:\n{}", numbered("  p#: { emails: [a@b] }\n"))),
        ("expression", many("${{ 1 }}")),
        ("expression", many("${{ 'a' ")),
        ("expression", format!("${{{{ {} }}}}", "(".repeat(980))),
        ("expression", format!("${{{{ {}1 }}}}", "!".repeat(980))),
        ("expression", format!("${{{{ {}1{} }}}}", "format(".repeat(120), ")".repeat(120))),
        ("webhook", format!("push\0\0{{\"x\":{}{}}}", "[".repeat(SIZE / 2), "]".repeat(SIZE / 2))),
        ("ansi", many("\u{1b}[")),
        ("ansi", many("\u{1b}]")),
        ("ansi", format!("\u{1b}]{}", many("x"))),
        ("ansi", many("\u{1b}[1m\u{1b}[0mä")),
        ("outputs", many("a=b\n")),
        ("runner_messages", format!("\"{}\"\n", many("\\n"))),
        ("runner_journal", many("{\"opened\":{\"version\":1,\"boot\":\"b0\"}}\n")),
        ("balancer_state", format!("{{\"format\":1,\"fleets\":[{}", many("[{"))),
        ("events", many("{\"type\":\"recovered\"}\n")),
        ("patterns", format!("{}\0{}", "*a".repeat(120), many("a"))),
        ("patterns", format!("{}\0{}", "a**".repeat(80), many("a/"))),
        ("address", many("a://")),
        ("address", many("https://a:b@")),
        ("address", format!("x {}", many("http://a:b/"))),
        ("cron", many("* ")),
        ("forms", format!("\0{}", many("a=b&"))),
        (
            "restore",
            format!(
                "{{\"version\":1,\"entries\":[{{\"kind\":\"directory\",\"path\":\"\",\"mode\":493}},{{\"kind\":\"link\",\"path\":\"a\",\"target\":\"{}\"}}]}}",
                many("a/")
            ),
        ),
        ("names", many("1h")),
    ];
    // Secrets that are parts of each other, in output that nearly is one of them.
    all.push(("redactor", format!("{}\0{}\0{}", "a".repeat(60), "ab".repeat(30), "ab".repeat(15_000))));
    let mut all: Vec<(&str, Vec<u8>)> =
        all.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    all.push(("unpack", link_with_a_long_target()));
    all
}

/// The text again and again, `#` being another number each time.
fn numbered(text: &str) -> String {
    (0..SIZE / text.len()).map(|number| text.replace('#', &number.to_string())).collect()
}

fn link_with_a_long_target() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let header = |kind| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(0);
        header
    };
    archive.append_data(&mut header(tar::EntryType::Directory), "./", std::io::empty()).unwrap();
    archive.append_link(&mut header(tar::EntryType::Symlink), "link", many("a/")).unwrap();
    archive.into_inner().unwrap()
}

fn target(name: &str) -> &'static Target {
    targets::ALL
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("there is no target {name}"))
}

#[test]
fn large_inputs_take_time_in_proportion() {
    for (name, bytes) in inputs() {
        let (begun, length) = (std::time::Instant::now(), bytes.len());
        harness::run_on(target(name), bytes);
        eprintln!("{name}: {length} bytes, {:.1?}", begun.elapsed());
    }
}
