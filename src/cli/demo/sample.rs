//! The git repository of the demo: the sample service of `examples/storefront`, carried in this
//! binary, in its first version and then in its second.

use std::path::Path;

use crate::cli::Error;
use crate::run::event::Commit;

/// The demo's pipeline and its settings, as they stand in `pipelines/`.
pub const PIPELINE: &str = include_str!("../../../pipelines/storefront.yaml");
pub const SETTINGS: &str = include_str!("../../../pipelines/settings.yaml");

/// What version 1 says of itself, and version 2 does not.
const VERSION_1: &str = include_str!("../../../examples/storefront/src/version.rs");

/// The branch of its commits.
const BRANCH: &str = "main";

macro_rules! sample {
    ($($mode:literal $path:literal),* $(,)?) => {
        /// The files of the sample service: path, mode, content.
        const FILES: &[(&str, u32, &str)] =
            &[$(($path, $mode, include_str!(concat!("../../../examples/storefront/", $path)))),*];
    };
}

sample! {
    0o644 ".gitignore",
    0o644 "Cargo.lock",
    0o644 "Cargo.toml",
    0o644 "README.md",
    0o644 "base/motd",
    0o755 "deploy/provision.sh",
    0o644 "src/bin/storefront-check.rs",
    0o644 "src/health.rs",
    0o644 "src/http.rs",
    0o644 "src/main.rs",
    0o644 "src/prices.rs",
    0o644 "src/version.rs",
}

/// Makes the repository with version 1 as its first commit.
pub fn create(directory: &Path) -> Result<Commit, Error> {
    use std::os::unix::fs::PermissionsExt;
    for (path, mode, content) in FILES {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode))?;
    }
    let mut options = git2::RepositoryInitOptions::new();
    options.initial_head(BRANCH).external_template(false);
    git2::Repository::init_opts(directory, &options).map_err(Error::world)?;
    commit(directory, "Open the shop")
}

/// Commits version 2.
pub fn change(directory: &Path) -> Result<Commit, Error> {
    let version_2 = VERSION_1.replace("\"1\"", "\"2\"").replace("version 1", "version 2");
    std::fs::write(directory.join("src/version.rs"), version_2)?;
    commit(directory, "Greet customers as version 2")
}

fn commit(directory: &Path, message: &str) -> Result<Commit, Error> {
    let commit = || -> Result<(git2::Oid, String), git2::Error> {
        let repository = git2::Repository::open(directory)?;
        let mut index = repository.index()?;
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None)?;
        index.write()?;
        let tree = repository.find_tree(index.write_tree()?)?;
        let author = git2::Signature::now("Octo Cat", "octocat@example.com")?;
        let parent = repository.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<&git2::Commit> = parent.iter().collect();
        let id = repository.commit(Some("HEAD"), &author, &author, message, &tree, &parents)?;
        Ok((id, author.to_string()))
    };
    let (id, author) =
        commit().map_err(|error| Error::world(format!("the demo's repository cannot be made: {error}")))?;
    let sha = id.to_string().parse().map_err(Error::world)?;
    Ok(Commit { sha, branch: BRANCH.to_owned(), author, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_carries_every_file_of_the_sample() {
        use std::os::unix::fs::PermissionsExt;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/storefront");
        let built = |entry: &walkdir::DirEntry| entry.file_name() != "target";
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(&root).into_iter().filter_entry(built).filter_map(Result::ok) {
            if entry.file_type().is_file() {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o100;
                let path = entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push((path, mode));
            }
        }
        found.sort();
        let carried: Vec<(String, u32)> =
            FILES.iter().map(|(path, mode, _)| ((*path).to_owned(), mode & 0o100)).collect();
        assert_eq!(found, carried);
    }

    #[test]
    fn version_2_differs_from_version_1() {
        let directory = tempfile::tempdir().unwrap();
        create(directory.path()).unwrap();
        let changed = change(directory.path()).unwrap();
        let text = std::fs::read_to_string(directory.path().join("src/version.rs")).unwrap();
        assert!(text.contains("\"2\"") && !text.contains("version 1"), "{text}");
        let repository = git2::Repository::open(directory.path()).unwrap();
        let head = repository.head().unwrap().peel_to_commit().unwrap();
        assert_eq!(head.parent_count(), 1);
        assert_eq!(head.id().to_string(), changed.sha.to_string());
        assert_eq!(changed.author, "Octo Cat <octocat@example.com>");
        assert_eq!(repository.head().unwrap().shorthand().unwrap(), "main");
    }
}
