//! What runs leave behind is listed, and ended.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::here::Here;

/// Older than anything that may still be recorded.
const OLD: Duration = Duration::from_secs(16 * 60);

const BAKED: &str = "\
name: baked
params: { broken: { default: \"false\" } }
stages:
  make:
    env: { BROKEN: \"${{ params.broken }}\" }
    steps: [{ run: 'mkdir out; echo $BROKEN > out/app' }]
    artifacts: { app: out/ }
  upload: { uses: upload, needs: make, with: { artifact: app } }
  bake:
    uses: bake
    needs: upload
    with: { provision: [{ run: grep false app }], start: ./app }
";

/// A builder that was left when somebody was killed.
fn leave_builder(here: &Here, key: &str) -> std::path::PathBuf {
    let builder = here.path("data/builders").join(key);
    std::fs::create_dir_all(builder.join("image/root/app")).unwrap();
    std::fs::write(builder.join("builder.json"), "{}").unwrap();
    let file = std::fs::File::open(builder.join("builder.json")).unwrap();
    file.set_modified(SystemTime::now() - OLD).unwrap();
    builder
}

#[test]
fn a_directory_without_runs_has_nothing_to_end_and_is_not_made() {
    let here = Here::new();
    assert_eq!(here.good(&["gc", "--dry-run"]), "would end 0 of 0 things\n");
    assert!(!here.path("data").exists());
}

#[test]
fn what_nobody_explains_or_is_young_stays_and_the_rest_is_listed_with_reasons() {
    let here = Here::new();
    here.write("baked.yaml", BAKED);
    here.good(&["run", "baked.yaml"]);
    assert_eq!(here.windlass(&["run", "baked.yaml", "--param", "broken=true"]).code, 1);
    // It came to be before its run: numbers alone prove nothing.
    let strange = leave_builder(&here, "baked-1.bake.1");
    let foreign = leave_builder(&here, "other-7.bake.1");
    let list = here.json(&["gc", "--dry-run", "--json"]);
    assert_eq!(list["dry_run"], json!(true));
    let things = list["things"].as_array().unwrap();
    let fates = |kind: &str| {
        let of_kind = things.iter().filter(|thing| thing["kind"] == kind);
        of_kind.map(|thing| (thing["id"].as_str().unwrap(), &thing["fate"])).collect::<Vec<_>>()
    };
    let (stays, unknown) = (json!("stays"), json!("unknown"));
    let builders = [("baked-1.bake.1", &unknown), ("baked-2.bake.1", &stays), ("other-7.bake.1", &unknown)];
    assert_eq!(fates("builder"), builders, "{list:#}");
    assert_eq!(fates("image").len(), 1, "{list:#}");
    let said = here.good(&["gc", "--dry-run"]);
    assert!(said.starts_with("would end 0 of 4 things"), "{said}");
    let all = here.good(&["gc", "--dry-run", "--all"]);
    assert!(all.contains("other/7 is not known here: it may be of another data directory"), "{all}");
    assert!(all.contains("baked/1 was not under way when it came to be"), "{all}");
    assert!(all.contains("stays: it is younger than 15 min"), "{all}");
    here.good(&["gc"]);
    assert!(strange.exists() && foreign.exists());
    assert!(here.path("data/builders/baked-2.bake.1").exists(), "it may be looked at for a while");
}
