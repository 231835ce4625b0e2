use std::path::{Path, PathBuf};

use super::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// What a command writes to `out` and to `err`, and how it ends.
fn capture(act: impl FnOnce(&mut Io<'_>) -> std::io::Result<Exit>) -> (String, String, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = act(&mut Io { out: &mut out, err: &mut err, style: Style::Plain }).unwrap();
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), exit)
}

/// The reference pipeline in a directory of its own, and settings for it.
fn reference() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let pipeline = directory.path().join("pipeline.yaml");
    std::fs::write(&pipeline, crate::pipeline::REFERENCE).unwrap();
    let settings = directory.path().join("windlass.yaml");
    let text = std::fs::read_to_string(data("windlass.yaml")).unwrap();
    std::fs::write(&settings, text.replace("shop:", "storefront:").replace("TOKEN", "NPM_TOKEN")).unwrap();
    (directory, pipeline, settings)
}

fn validate(files: &[PathBuf], config: Option<&Path>, json: bool) -> (String, String, Exit) {
    let args = validate::Args { files: files.to_vec(), config: config.map(Path::to_owned), json };
    capture(|io| validate::run(&args, io))
}

fn plan(file: &Path, config: Option<&Path>, json: bool) -> (String, String, Exit) {
    let args = plan::Args { file: file.to_owned(), config: config.map(Path::to_owned), json };
    capture(|io| plan::run(&args, io))
}

#[test]
fn validate_says_ok_and_what_it_did_not_check() {
    let (_directory, pipeline, settings) = reference();
    let (out, err, exit) = validate(std::slice::from_ref(&pipeline), None, false);
    assert_eq!(out, format!("ok {}: storefront, 11 stages\n", pipeline.display()));
    assert_eq!(err, format!("{NOT_CHECKED}\n"));
    assert_eq!(exit, Exit::Good);
    let (out, err, exit) = validate(&[pipeline], Some(&settings), false);
    assert!(out.ends_with("11 stages\n"), "{out}");
    assert_eq!((err.as_str(), exit), ("", Exit::Good));
}

#[test]
fn validate_names_all_problems_of_all_files() {
    let (_directory, pipeline, _) = reference();
    let files =
        [data("broken/needs-unknown.yaml"), pipeline, data("broken/no-name.yaml"), data("nowhere.yaml")];
    let (out, _, exit) = validate(&files, None, false);
    assert_eq!(exit, Exit::Invalid);
    for part in [
        "needs-unknown.yaml:5:15: error:",
        "needs-unknown.yaml:6:21: error:",
        "ok ",
        "no-name.yaml:1:1: error:",
        "nowhere.yaml:1:1: error: the file cannot be read",
    ] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (out, _, exit) = validate(&files, None, true);
    assert_eq!(exit, Exit::Invalid);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["ok"], &json["environments_checked"]), (&false.into(), &false.into()));
    assert_eq!(json["files"][0]["problems"][0]["suggestion"], "build");
    assert_eq!((&json["files"][1]["ok"], &json["files"][1]["stages"]), (&true.into(), &11.into()));
}

#[test]
fn validate_names_what_is_wrong_with_the_settings_too() {
    let (_directory, pipeline, _) = reference();
    let (out, err, exit) = validate(&[pipeline], Some(&data("broken/settings/ports.yaml")), false);
    assert!(out.contains("ports.yaml:2:") && out.contains("storefront, 11 stages"), "{out}");
    assert!(err.contains(NOT_CHECKED));
    assert_eq!(exit, Exit::Invalid);
}

#[test]
fn plan_shows_the_order_and_what_each_environment_asks() {
    let (_directory, pipeline, settings) = reference();
    let (out, err, exit) = plan(&pipeline, Some(&settings), false);
    assert_eq!((err.as_str(), exit), ("", Exit::Good));
    insta::assert_snapshot!(out, @r"
    storefront: 11 stages
       1  checkout    checkout  clones the commit, at most 1h
       2  test        script    2 steps, up to 2 attempts, at most 15m
                                waits for checkout
          build       script    1 step, makes app, at most 1h
                                waits for checkout
       3  upload      upload    uploads app, at most 1h
                                waits for test, build
          archive     upload    uploads app, at most 1h
                                waits for build
       4  bake        bake      bakes app upon the image in production, or base/ the first time, at most 1h
                                waits for upload
       5  staging     deploy    moves the fleet to the image, in staging, at most 1h
                                waits for bake
       6  e2e         script    1 step, in staging, at most 1h
                                waits for staging, build
       7  certify     certify   certifies the image, at most 1h
                                waits for e2e
       8  production  deploy    moves the fleet to the image, in production, at most 1h
                                waits for certify
       9  report      script    1 step, at most 1h
                                waits for production
                                runs if always() && params.notify

    environments
      staging: entered at staging, promoted automatically; group qa; fleet of 1 at port 7431
      production: entered at production, once somebody promotes the run; takes a certified image only; group production; fleet of 3 at port 7432

    params
      flavour = plain
      notify = false

    artifacts and images
      app (dist): build → upload, archive → bake
      image: bake → certify, staging, production
    ");
}

#[test]
fn plan_is_also_json() {
    let (_directory, pipeline, _) = reference();
    let (out, err, exit) = plan(&pipeline, None, true);
    assert_eq!(exit, Exit::Good);
    assert!(err.contains(NOT_CHECKED));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["environments_checked"], false);
    assert_eq!(json["stages"][0]["name"], "checkout");
    assert_eq!(json["artifacts"][0]["baked_by"][0], "bake");
    assert_eq!(json["images"][0]["deployed_by"], serde_json::json!(["staging", "production"]));
    assert_eq!(json["environments"][1]["first_stage"], "production");
    let (out, err, exit) = plan(&data("broken/no-name.yaml"), None, true);
    assert_eq!((out.as_str(), exit), ("", Exit::Invalid));
    assert!(err.contains("no-name.yaml:1:1: error:"));
}

#[test]
fn schema_and_reference_are_printed_whole() {
    let (out, _, exit) = capture(|io| schema::run(&schema::Args {}, io));
    assert_eq!(exit, Exit::Good);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), crate::pipeline::schema::pipeline());
    let (out, _, _) = capture(|io| reference::run(&reference::Args {}, io));
    assert_eq!(out, crate::pipeline::REFERENCE);
}
