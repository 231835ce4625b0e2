use super::model::Kind;
use super::*;

#[test]
fn the_reference_is_read() {
    let pipeline = read(REFERENCE, "reference.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(pipeline.name.as_str(), "storefront");
    let kinds: Vec<&str> = pipeline.stages.iter().map(|stage| stage.kind.word()).collect();
    assert_eq!(
        kinds.join(" "),
        "checkout script script upload bake deploy script certify deploy script upload"
    );
    let Kind::Bake(bake) = &pipeline.stages[4].kind else { panic!("no bake") };
    assert_eq!(bake.files, ["deploy"]);
}
