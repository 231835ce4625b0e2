use std::io::Write as _;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;

fn redact(secrets: &[String], pieces: &[&[u8]]) -> String {
    let mut redactor = Redactor::new(secrets);
    let mut out = Vec::new();
    for piece in pieces {
        redactor.push(piece, &mut out);
    }
    redactor.finish(&mut out);
    String::from_utf8(out).unwrap()
}

fn once(secrets: &[&str], text: &str) -> String {
    let secrets: Vec<String> = secrets.iter().map(|s| s.to_string()).collect();
    redact(&secrets, &[text.as_bytes()])
}

#[test]
fn secrets_are_masked_in_each_form() {
    assert_eq!(once(&["hunter22"], "pw=hunter22;hunter2"), "pw=***;hunter2");
    assert_eq!(once(&["a b\"c"], r#"{"pw":"a b\"c"} a+b%22c"#), r#"{"pw":"***"} ***"#);
    assert_eq!(once(&["hunter22"], "Basic dXNlcjpodW50ZXIyMg=="), "Basic dXNlcjp***g==");
    assert_eq!(once(&["one-line\ntwo-line"], "x one-line y\ntwo-line\n"), "x *** y\n***\n");
    assert_eq!(once(&[], "as it is"), "as it is");
}

#[test]
fn what_overlaps_is_masked_whole() {
    assert_eq!(once(&["abcdef", "defghi"], "xabcdefghix"), "x***x");
    assert_eq!(once(&["abcd", "abcdefgh"], "abcdefgh abcdefg"), "*** ***efg");
    assert_eq!(once(&["bcde", "abcdef"], "abcdef abcdex"), "*** a***x");
    assert_eq!(once(&["secret"], "secretsecret"), "***");
}

#[test]
fn only_what_may_be_a_secret_is_held_back() {
    let mut redactor = Redactor::new(["secret"]);
    let mut out = Vec::new();
    let mut push = |piece: &str| {
        out.clear();
        redactor.push(piece.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    assert_eq!(push("Password: "), "Password: ");
    assert_eq!(push("a sec"), "a ");
    assert_eq!(push("ond sec"), "second ");
    assert_eq!(push("ret"), "***", "a whole secret comes out as its mask at once");
    assert_eq!(push("!"), "!");
}

proptest! {
    /// Few letters, so that secrets turn up, overlap and nest all the time.
    #[test]
    fn the_cut_changes_nothing_and_no_secret_gets_through(
        secrets in prop::collection::vec("[ab\n]{1,7}", 0..5),
        text in "[ab\n]{0,80}",
        cuts in prop::collection::vec(0usize..80, 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
        let whole = redact(&secrets, &[text.as_bytes()]);
        prop_assert_eq!(&redact(&secrets, &pieces), &whole);
        prop_assert_eq!(&by_hand(&secrets, &text), &whole);
        for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST) {
            prop_assert!(!whole.contains(secret.as_str()));
        }
    }
}

/// The same, said as simply as can be: every byte that an occurrence covers, then the stretches.
fn by_hand(secrets: &[String], text: &str) -> String {
    let mut covered = vec![false; text.len()];
    for form in secrets.iter().flat_map(|secret| variants::of(secret)) {
        for start in 0..text.len() {
            if text.as_bytes()[start..].starts_with(&form) {
                covered[start..start + form.len()].fill(true);
            }
        }
    }
    let mut out = String::new();
    for (i, c) in text.char_indices() {
        match covered[i] {
            false => out.push(c),
            true if i == 0 || !covered[i - 1] => out.push_str("***"),
            true => {}
        }
    }
    out
}

#[test]
fn a_long_text_with_many_forms_is_masked_wherever_it_is_cut() {
    let secrets: Vec<String> = (0..40).map(|i| format!("secret-number-{i:02}-of-many")).collect();
    let text: String = (0..4000).map(|i| format!("{i} {} plain\n", secrets[i % 40])).collect();
    for size in [7, 1000, 65536] {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        let out = redact(&secrets, &pieces);
        assert!(!out.contains("secret-number"));
        assert_eq!(out.matches(" *** plain\n").count(), 4000);
    }
}

#[test]
fn a_line_is_written_at_once_and_masked() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("a/b/01.log");
    let mut log = Writer::open(&path, ["hunter22"]).unwrap();
    log.line("swap batch 1 of 3").unwrap();
    log.line("token hunter22").unwrap();
    let expected = "swap batch 1 of 3\ntoken ***\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(log.length(), expected.len() as u64);
    let mut again = Writer::open(&path, [""; 0]).unwrap();
    again.line("on").unwrap();
    assert_eq!(again.length(), expected.len() as u64 + 3);
}

#[test]
fn a_log_lies_below_its_run() {
    let step = crate::ids::StepId {
        attempt: crate::ids::AttemptId {
            run: "storefront/42".parse().unwrap(),
            stage: "test".parse().unwrap(),
            attempt: 2,
        },
        step: 3,
    };
    assert_eq!(path(Path::new("/d"), &step), Path::new("/d/logs/storefront/42/test/2/03.log"));
}

#[tokio::test]
async fn following_waits_for_the_log_and_sees_everything_until_the_end() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("logs/storefront/1/01.log");
    let ended = CancellationToken::new();
    let seen = Arc::new(Mutex::new(String::new()));
    let (news, mut arrived) = tokio::sync::watch::channel(());
    let following = tokio::spawn({
        let mut log = follow(path.clone(), 0, ended.clone().cancelled_owned());
        let seen = Arc::clone(&seen);
        async move {
            while let Some(bytes) = log.next().await {
                seen.lock().unwrap().push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
                let _ = news.send(());
            }
        }
    });
    let mut wait_for = async |text: &str| {
        while seen.lock().unwrap().as_str() != text {
            arrived.changed().await.unwrap();
        }
    };
    std::fs::create_dir(data.path().join("logs")).unwrap();
    tokio::task::yield_now().await;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    tokio::task::yield_now().await;
    let mut file = File::create(&path).unwrap();
    file.write_all(b"one\n").unwrap();
    wait_for("one\n").await;
    file.write_all(b"two").unwrap();
    wait_for("one\ntwo").await;
    file.write_all(b" and the end").unwrap();
    ended.cancel();
    following.await.unwrap();
    assert_eq!(seen.lock().unwrap().as_str(), "one\ntwo and the end");
}

#[tokio::test]
async fn following_from_the_middle_of_a_log_that_ended() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("01.log");
    std::fs::write(&path, "0123456789").unwrap();
    let log = follow(path, 4, async {});
    let all: Vec<_> = log.map(|bytes| bytes.unwrap()).collect().await;
    assert_eq!(all.concat(), b"456789");
    let none = follow(data.path().join("never.log"), 0, async {});
    assert_eq!(none.count().await, 0);
}
