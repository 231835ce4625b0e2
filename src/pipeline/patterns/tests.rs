use super::*;

fn patterns(texts: &[&str]) -> Patterns {
    for text in texts {
        check(text).unwrap_or_else(|error| panic!("{error}"));
    }
    Patterns(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// Which of the texts the patterns allow.
fn admitted<'a>(pattern: &[&str], texts: &[&'a str]) -> Vec<&'a str> {
    let patterns = patterns(pattern);
    texts.iter().copied().filter(|text| patterns.admits(text)).collect()
}

/// The examples of GitHub's "Workflow syntax", filter pattern cheat sheet, as far as they are spoken here.
#[test]
fn patterns_mean_what_they_mean_on_github() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("feature/*", &["feature/my-branch", "feature/your-branch"], &["feature/a/b", "feature"]),
        ("feature/**", &["feature/beta-a/my-branch", "feature/your-branch"], &["features/x"]),
        ("main", &["main"], &["mains", "a/main"]),
        ("*", &["main", "releases"], &["all/the/branches"]),
        ("**", &["all/the/branches", "every/tag", "main"], &[]),
        ("*feature", &["mona-feature", "feature", "ver-10-feature"], &["a/feature"]),
        ("v2*", &["v2", "v2.0", "v2.9"], &["v1"]),
        ("v[12].[0-9].[0-9]", &["v1.1.1", "v2.0.1"], &["v3.1.1", "v1.10.1"]),
        ("*.js", &["app.js", "index.js"], &["js/index.js"]),
        ("**.js", &["index.js", "js/index.js", "src/js/app.js"], &["index.jsx"]),
        ("docs/*", &["docs/README.md", "docs/file.txt"], &["docs/a/b.md"]),
        ("docs/**", &["docs/README.md", "docs/mona/octocat.txt"], &["src/docs/x", "docsy"]),
        (
            "docs/**/*.md",
            &["docs/README.md", "docs/mona/hello-world.md", "docs/a/markdown/file.md"],
            &["docs/a.txt"],
        ),
        ("**/docs/**", &["docs/hello.md", "dir/docs/my-file.txt", "space/docs/plan/space.doc"], &["doc/x"]),
        ("**/README.md", &["README.md", "js/README.md"], &["READMES.md", "js/xREADME.md"]),
        ("**/*src/**", &["a/src/app.js", "my-src/code/js/app.js"], &["src.js"]),
        ("**/*-post.md", &["my-post.md", "path/their-post.md"], &["my-post.mdx"]),
        ("**/migrate-*.sql", &["migrate-10909.sql", "db/migrate-v1.0.sql"], &["db/sept/migrate.sql"]),
        ("release-**", &["release-1", "release-1/hot/fix"], &["releases"]),
        ("a**b", &["ab", "axb", "a/b", "ax/y/zb"], &["a/bc"]),
        ("?ain", &["main", "rain"], &["ain", "/ain", "mmain"]),
        ("a{b,c}", &["a{b,c}"], &["ab", "ac"]),
        (r"a\*", &["a*"], &["ab"]),
        (r"c\+\+", &["c++"], &["c"]),
        ("[!]x]y", &["ay"], &["]y", "xy"]),
        ("x[+*]", &["x+", "x*"], &["xx"]),
        ("***", &["a/b", "c"], &[]),
    ];
    for (pattern, yes, no) in cases {
        let all: Vec<&str> = yes.iter().chain(*no).copied().collect();
        assert_eq!(admitted(&[pattern], &all), *yes, "{pattern}");
    }
}

#[test]
fn the_order_matters() {
    let texts = ["src/a.rs", "docs/a.md", "docs/keep/b.md"];
    assert_eq!(admitted(&["**", "!docs/**"], &texts), ["src/a.rs"]);
    assert_eq!(admitted(&["**", "!docs/**", "docs/keep/**"], &texts), ["src/a.rs", "docs/keep/b.md"]);
    assert_eq!(admitted(&["docs/**", "!docs/**"], &texts), [] as [&str; 0]);
    assert_eq!(admitted(&["!docs/**", "**"], &texts), texts);
    assert_eq!(admitted(&[], &texts), [] as [&str; 0]);
}

#[test]
fn bad_patterns_say_what_is_wrong() {
    let wrong = |text: &str| check(text).unwrap_err();
    assert_eq!(wrong(""), "a pattern cannot be empty");
    assert_eq!(wrong("!"), "a pattern cannot be empty");
    assert!(wrong("v[0-9]+").contains("has a `+`, which repeats nothing here"));
    assert!(
        wrong("v[0-9").starts_with("\"v[0-9\" is no pattern: unclosed character class"),
        "{}",
        wrong("v[0-9")
    );
    assert!(wrong("[z-a]").contains("invalid range"), "{}", wrong("[z-a]"));
    assert!(wrong("a\\").contains("is no pattern"), "{}", wrong("a\\"));
    assert!(wrong(&"x".repeat(256)).contains("at most 255 bytes"));
    for path in ["/src/**", "./src", "../src", "!a/../b", "~/x", "a//b", "docs/"] {
        assert!(check_path(path).unwrap_err().contains("matches no path"), "{path}");
    }
    for path in ["**", "!docs/**", "reports/*.xml", r"a\[1\].xml", ".github/**"] {
        assert_eq!(check_path(path), Ok(()), "{path}");
    }
}

#[test]
fn a_push_takes_branches_unless_only_tags_are_named() {
    let push = |branches: &[&str], tags: &[&str]| Push {
        branches: patterns(branches),
        tags: patterns(tags),
        ..Push::default()
    };
    let takes = |push: &Push| (push.takes_branch("main"), push.takes_tag("v1"));
    assert_eq!(takes(&push(&[], &[])), (true, false));
    assert_eq!(takes(&push(&["main"], &[])), (true, false));
    assert_eq!(takes(&push(&["next"], &[])), (false, false));
    assert_eq!(takes(&push(&[], &["v*"])), (false, true));
    assert_eq!(takes(&push(&["main"], &["v*"])), (true, true));
    assert_eq!(takes(&push(&["**"], &["w*"])), (true, false));
}

#[test]
fn without_patterns_of_paths_any_change_will_do() {
    let push = Push { paths: patterns(&["**", "!docs/**"]), ..Push::default() };
    assert!(push.takes_paths(["docs/a", "src/b"]));
    assert!(!push.takes_paths(["docs/a"]));
    assert!(!push.takes_paths([]));
    assert!(Push::default().takes_paths([]));
    let request = PullRequest { branches: patterns(&["main"]), ..PullRequest::default() };
    assert!(request.takes_branch("main") && !request.takes_branch("next"));
    assert!(PullRequest::default().takes_branch("any") && request.takes_paths(["x"]));
}

/// Whatever an author writes is compiled without a panic and in no time.
#[test]
fn any_pattern_is_taken_or_refused() {
    use proptest::prelude::*;
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }, |(text in "[a*?!/\\[\\]{},\\\\+-]{0,30}", with in "[a/*-]{0,10}")| {
        if check(&text).is_ok() {
            let patterns = Patterns(vec![text.clone()]);
            prop_assert_eq!(patterns.matcher().rules.len(), 1, "{} is accepted and cannot be compiled", text);
            patterns.admits(&with);
        }
    });
}
