//! What is wrong with the input is said at once, with what to do about it, and nothing is left behind.

use crate::here::Here;

const PIPELINE: &str = "\
name: shop
params:
  flavour: { default: plain }
  region: { description: Where it is sold }
stages:
  build: { steps: [{ run: make }] }
  ship: { needs: build, environment: production, steps: [{ run: ship }] }
";

fn refused(here: &Here, arguments: &[&str]) -> String {
    let said = here.windlass(arguments);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(!here.path("data/windlass.db").exists());
    said.err
}

#[test]
fn all_that_is_wrong_with_a_pipeline() {
    let here = Here::new();
    here.write(
        "bad.yaml",
        "name: bad\nstages:\n  one: { needs: twoo, steps: [{ run: a }] }\n  two: { stepps: [] }\n",
    );
    for command in ["run", "validate"] {
        let said = here.windlass(&[command, "bad.yaml"]);
        let all = format!("{}{}", said.out, said.err);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(all.contains("bad.yaml:3:17: error: ") && all.contains("did you mean \"two\"?"), "{all}");
        assert!(all.contains("bad.yaml:4:10: error: ") && all.contains("did you mean \"steps\"?"), "{all}");
    }
    assert!(refused(&here, &["run", "none.yaml"]).contains("none.yaml:1:1: error: the file cannot be read"));
}

#[test]
fn what_is_no_file_is_not_read_for_ever() {
    let here = Here::new();
    here.write("endless.yaml", &"# long\n".repeat(160_000));
    for (file, why) in [("/dev/zero", "neither a file nor a pipe"), ("endless.yaml", "larger than 1 MiB")] {
        for arguments in [&["validate", file][..], &["validate", "--config", file, "shop.yaml"]] {
            let said = here.windlass(arguments);
            assert!(said.code == 2 && said.out.contains(why), "{said:?}");
        }
        assert!(refused(&here, &["run", file]).contains(why));
    }
    // A pipe can be read once only.
    let settings = "environments: {}\n";
    for text in [settings, PIPELINE] {
        here.write("text", text);
        let script = r#"cat text | "$0" validate /dev/stdin"#;
        let said = here.shell(script);
        assert!(said.code == 0 && said.out.starts_with("ok /dev/stdin: "), "{said:?}");
    }
}

#[test]
fn params() {
    let here = Here::new();
    here.with_gate("shop").write("shop.yaml", PIPELINE);
    let run = |arguments: &[&str]| {
        refused(&here, &[&["run", "shop.yaml", "--config", "windlass.yaml"], arguments].concat())
    };
    insta::assert_snapshot!(run(&[]), @r"
    error: shop asks for the param region (Where it is sold)
    hint: --param region=VALUE
    ");
    insta::assert_snapshot!(run(&["--param", "regoin=eu"]), @r#"
    error: shop has no param "regoin"
    hint: did you mean "region"?
    "#);
    insta::assert_snapshot!(run(&["--param", "eu"]), @r#"error: --param takes NAME=VALUE, not "eu""#);
    insta::assert_snapshot!(run(&["--param", "region=a", "--param", "region=b"]), @"error: --param region is given twice");
}

#[test]
fn environments() {
    let here = Here::new();
    here.with_gate("shop").write("shop.yaml", PIPELINE);
    let promote =
        ["run", "shop.yaml", "--config", "windlass.yaml", "--param", "region=eu", "--promote", "prodution"];
    insta::assert_snapshot!(refused(&here, &promote), @r#"
    error: no stage of shop names an environment "prodution"
    hint: did you mean "production"?
    "#);
    let unchecked = refused(&here, &["run", "shop.yaml", "--param", "region=eu"]);
    assert!(unchecked.contains("shop.yaml:7:38: error: unknown environment \"production\""), "{unchecked}");
    assert!(unchecked.contains("--config"), "{unchecked}");
}

#[test]
fn a_commit_without_a_source() {
    let here = Here::new();
    here.write("a.yaml", "name: a\nstages: { get: { uses: checkout } }\n");
    here.write("b.yaml", "name: b\nstages: { one: { steps: [{ run: a }] } }\n");
    insta::assert_snapshot!(refused(&here, &["run", "a.yaml"]).replace(here.path("").to_str().unwrap(), "DIR/"), @r"
    error: the stage get checks a commit out, and nothing says where commits come from
    hint: --source DIR names the repository
    hint: or write into DIR/a.yaml: source: { git: ../repository }
    ");
    insta::assert_snapshot!(refused(&here, &["run", "b.yaml", "--commit", "v1"]), @r"
    error: --commit names a commit, and there is no source to take it from
    hint: --source DIR names the repository
    ");
    let nothing = refused(&here, &["run", "a.yaml", "--source", "nowhere"]);
    assert!(nothing.contains("is not a git repository"), "{nothing}");
}

#[test]
fn words() {
    let here = Here::new();
    insta::assert_snapshot!(refused(&here, &["runs", "--status", "succeded"]), @r#"
    error: no run ever has the status "succeded"
    hint: did you mean "succeeded"?
    hint: a status is one of queued, running, waiting, cancelling, succeeded, failed, cancelled, superseded
    "#);
    let name = refused(&here, &["cancel", "hello/1", "--as", "a\x07b"]);
    assert!(name.starts_with("error: --as: ") && !name.contains('\x07'), "{name:?}");
    let policy = refused(&here, &["cancel", "hello/1", "--as", "policy:command-line"]);
    assert!(policy.contains("stand for rules"), "{policy}");
    let server = refused(&here, &["runs", "--server", "https://ci.example.com"]);
    assert!(server.contains("not supported yet"), "{server}");
    assert!(refused(&here, &["show", "hello"]).contains("a run is named like storefront/42"));
    assert!(refused(&here, &["reject", "hello/1", "production"]).contains("--reason"));
}
