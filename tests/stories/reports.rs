//! Reports that a stage's steps leave: recorded, shown, and deciding.

use std::fs;

use serde_json::Value;

use crate::support::{World, stage, text};

/// A pipeline of one stage, whose step is the script `./test` of the commit.
const PIPELINE: &str = "name: shop
stages:
  checkout: { uses: checkout }
  test:
    needs: checkout
    timeout: 2m
    steps: [{ name: Unit tests, run: ./step test ./check }]
    reports: { junit: reports/*.xml, coverage: { lcov: lcov.info, at_least: 85 } }
";

const GREEN: &str = r#"<testsuite name="cart"><testcase name="is_empty" time="0.5"/></testsuite>"#;
const RED: &str = r#"<testsuite name="cart"><testcase name="is_empty" time="0.5"/>
<testcase name="adds_up" time="1.25"><failure message="expected 3, got 2">at src/cart.rs:42</failure></testcase></testsuite>"#;

/// What a commit's tests leave behind.
struct Check<'a> {
    junit: Option<&'a str>,
    covered: u32,
    exit_code: u32,
}

fn world_of(check: &Check<'_>) -> World {
    let world = World::new();
    fs::write(&world.pipeline, PIPELINE).unwrap();
    let mut script = "#!/bin/sh\nmkdir -p reports\n".to_owned();
    if let Some(junit) = check.junit {
        script += &format!("cat > reports/all.xml <<'END'\n{junit}\nEND\n");
    }
    let lines: String =
        (1..=16).map(|line| format!("DA:{line},{}\n", u32::from(line <= check.covered))).collect();
    script += &format!("cat > lcov.info <<'END'\nSF:src/cart.rs\n{lines}end_of_record\nEND\n");
    script += &format!("echo tested\nexit {}\n", check.exit_code);
    world.repository.write_program("check", &script);
    world.repository.commit("Check the shop");
    world
}

/// How the stage looks now.
fn test_of(world: &World) -> Value {
    stage(&world.show("shop/1"), "test").clone()
}

#[test]
fn a_green_stage_keeps_what_its_reports_say() {
    let world = world_of(&Check { junit: Some(GREEN), covered: 14, exit_code: 0 });
    world.run(&[]).ended().with(0);

    let test = test_of(&world);
    assert_eq!(
        (&test["report"]["tests"]["passed"], &test["coverage"]),
        (&1.into(), &"87.50 %".into()),
        "{test:#}"
    );
    assert_eq!(test["report"]["coverage"]["at_least"], 8_500);
    assert_eq!(test["history"][0]["report"], test["report"]);
    let said = world.windlass(&["logs", "shop/1", "test"]).with(0).out;
    assert!(said.ends_with("tested\ntests: 1 passed in 0.5 s; coverage 87.50 % of lines\n"), "{said}");
    assert_eq!(test["steps"][0]["log_bytes"], fs::metadata(log_of(&world)).unwrap().len());
    let shown = world.windlass(&["show", "shop/1"]).with(0);
    shown.says(&[
        "tests 1 passed in 0.5 s",
        "slow cart::is_empty  0.5 s",
        "coverage 87.50 %  14 of 16 lines",
    ]);
    world.end();
}

fn log_of(world: &World) -> std::path::PathBuf {
    world.data.join("logs/shop/1/test/1/01.log")
}

#[test]
fn red_tests_fail_a_stage_whose_steps_say_nothing() {
    let world = world_of(&Check { junit: Some(RED), covered: 14, exit_code: 0 });
    world.run(&[]).ended().with(1);

    let test = test_of(&world);
    let reason = "1 of 2 tests failed: cart::adds_up (src/cart.rs:42): expected 3, got 2";
    assert_eq!((text(&test["reason"]), text(&test["cause"])), (reason, "task"), "{test:#}");
    assert_eq!(test["steps"][0]["status"], "succeeded");
    let shown = world.windlass(&["show", "shop/1"]).with(0);
    shown.says(&[
        "tests 1 passed, 1 failed in 1.8 s",
        "✗ cart::adds_up  src/cart.rs:42",
        "expected 3, got 2",
    ]);
    world.end();
}

#[test]
fn a_step_that_fails_is_told_with_its_tests() {
    let world = world_of(&Check { junit: Some(RED), covered: 2, exit_code: 3 });
    world.run(&[]).ended().with(1);

    let test = test_of(&world);
    let reason = text(&test["reason"]);
    assert!(reason.starts_with("1 of 2 tests failed: cart::adds_up (src/cart.rs:42)"), "{reason}");
    assert!(reason.contains("coverage 12.50 % is below the 85 % that the pipeline asks for"), "{reason}");
    assert!(reason.ends_with("“Unit tests” ended with exit code 3: tested"), "{reason}");
    assert_eq!((text(&test["cause"]), &test["report"]["tests"]["failed"]), ("task", &1.into()));
    world.end();
}

#[test]
fn too_little_coverage_and_reports_that_are_missing_fail_a_stage() {
    let world = world_of(&Check { junit: Some(GREEN), covered: 13, exit_code: 0 });
    world.run(&[]).ended().with(1);
    let reason = "coverage 81.25 % is below the 85 % that the pipeline asks for";
    assert_eq!(text(&test_of(&world)["reason"]), reason);
    world.end();

    let world = world_of(&Check { junit: None, covered: 16, exit_code: 0 });
    world.run(&[]).ended().with(1);
    let test = test_of(&world);
    assert_eq!(text(&test["reason"]), "reports.junit: no file matches reports/*.xml");
    assert_eq!(text(&test["cause"]), "task");
    world.end();
}

#[test]
fn a_run_that_was_killed_in_its_tests_reports_once() {
    let world = world_of(&Check { junit: Some(RED), covered: 16, exit_code: 0 });
    world.hold("test");
    let driver = world.run(&[]);
    world.until_written("test starts");
    driver.kill();
    world.release("test");
    world.until_written("test is done");
    world.resume("shop/1").ended().with(1);

    let test = test_of(&world);
    assert_eq!((&test["report"]["tests"]["failed"], &test["attempts"]), (&1.into(), &1.into()), "{test:#}");
    let log = fs::read_to_string(log_of(&world)).unwrap();
    assert_eq!(log.matches("tests: 1 passed, 1 failed").count(), 1, "{log}");
    world.end();
}
