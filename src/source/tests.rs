//! Against real repositories, made with git.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::*;

/// A repository with a work tree.
struct Repo(tempfile::TempDir);

fn git_in(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@example.com")])
        .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@example.com")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

impl Repo {
    fn empty() -> Self {
        let repo = Self(tempfile::tempdir().unwrap());
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    /// With one commit, "first".
    fn new() -> Self {
        let repo = Self::empty();
        repo.commit("a.txt", "one\n", "first");
        repo
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        git_in(self.path(), arguments)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn commit(&self, name: &str, text: &str, message: &str) -> CommitSha {
        self.write(name, text);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    fn head(&self) -> CommitSha {
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    fn address(&self) -> Address {
        Address::parse(self.path().to_str().unwrap(), Path::new("/")).unwrap()
    }
}

struct Data {
    directory: tempfile::TempDir,
    sources: Sources,
}

impl Data {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources::new(directory.path());
        Self { directory, sources }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn resolve(&self, repo: &Repo, want: Want) -> Commit {
        self.sources.resolve(&repo.address(), &want).await.unwrap()
    }

    async fn refused(&self, repo: &Repo, want: Want) -> String {
        self.sources.resolve(&repo.address(), &want).await.unwrap_err().to_string()
    }

    /// A clone of the commit on the branch, at `name`.
    async fn clone(&self, repo: &Repo, commit: &Commit, name: &str) -> PathBuf {
        let directory = self.path().join(name);
        let address = repo.address();
        self.sources.clone_into(&address, &commit.sha, &commit.branch, &directory).await.unwrap();
        directory
    }

    fn cache(&self, repo: &Repo) -> PathBuf {
        Cache::new(&self.path().join("cache/git"), &repo.address()).path()
    }
}

fn revision(text: &str) -> Want {
    Want::Commit(text.to_owned())
}

fn branch(name: &str) -> Want {
    Want::Branch(name.to_owned())
}

#[tokio::test]
async fn a_commit_is_found_by_head_branch_hash_and_tag() {
    let (repo, data) = (Repo::new(), Data::new());
    let first = repo.head();
    repo.git(&["tag", "-a", "v1", "-m", "one"]);
    repo.git(&["checkout", "-q", "-b", "feature/$(rm)`x`;'\""]);
    let second = repo.commit("b.txt", "two\n", "second\n\nwith a body");
    repo.git(&["checkout", "-q", "main"]);

    let head = data.resolve(&repo, Want::Head).await;
    assert_eq!(head.sha, first);
    assert_eq!((head.branch.as_str(), head.author.as_str()), ("main", "Ada <ada@example.com>"));
    let odd = data.resolve(&repo, branch("feature/$(rm)`x`;'\"")).await;
    assert_eq!((&odd.sha, odd.message.as_str()), (&second, "second\n\nwith a body"));
    // A hash is on the branch that HEAD points to, or on the first that has it.
    for (text, on) in [(first.as_str(), "main"), (first.short(), "main"), ("v1", "main"), ("HEAD", "main")] {
        let found = data.resolve(&repo, revision(text)).await;
        assert_eq!((found.sha, found.branch.as_str()), (first.clone(), on), "{text}");
    }
    assert_eq!(data.resolve(&repo, revision(second.short())).await.branch, odd.branch);

    // What is new is seen, what was rewritten too, and what is gone is gone.
    let third = repo.commit("a.txt", "three\n", "third");
    assert_eq!(data.resolve(&repo, Want::Head).await.sha, third);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(data.resolve(&repo, Want::Head).await.sha, first);
    repo.git(&["branch", "-q", "-D", odd.branch.as_str()]);
    repo.git(&["branch", "-q", "feature", "main"]);
    assert!(data.refused(&repo, branch(&odd.branch)).await.contains("it has feature, main"));
    assert_eq!(data.resolve(&repo, branch("feature")).await.sha, first);
}

#[tokio::test]
async fn a_detached_head_and_a_commit_on_no_branch_have_none() {
    let (repo, data) = (Repo::new(), Data::new());
    repo.git(&["checkout", "-q", "--detach"]);
    assert_eq!(data.resolve(&repo, Want::Head).await.branch, "main");
    let loose = repo.commit("b.txt", "x", "on no branch");
    let found = data.resolve(&repo, Want::Head).await;
    assert_eq!((found.sha, found.branch.as_str()), (loose.clone(), ""));
    // Not even HEAD leads to it any more, yet its hash does.
    repo.git(&["checkout", "-q", "main"]);
    let fresh = Data::new();
    assert_eq!(fresh.resolve(&repo, revision(loose.as_str())).await.sha, loose);
}

#[tokio::test]
async fn what_cannot_be_found_says_what_to_do() {
    let (repo, data) = (Repo::new(), Data::new());
    let message = data.refused(&repo, branch("mian")).await;
    assert!(message.ends_with("has no branch \"mian\"; it has main"), "{message}");
    for text in ["0123456789012345678901234567890123456789", "nonsense", "HEAD~7", "a b", "--all"] {
        let message = data.refused(&repo, revision(text)).await;
        assert!(message.contains("has no commit"), "{text}: {message}");
    }
    let message = data.refused(&repo, revision("HEAD^{tree}")).await;
    assert!(message.contains("something else than a commit"), "{message}");
    assert!(data.refused(&Repo::empty(), Want::Head).await.contains("has no commits yet"));

    let unborn = Repo::new();
    unborn.git(&["symbolic-ref", "HEAD", "refs/heads/next"]);
    let message = data.refused(&unborn, Want::Head).await;
    assert!(message.contains("its HEAD; it has main"), "{message}");
}

#[tokio::test]
async fn a_directory_that_is_no_repository_says_so() {
    let data = Data::new();
    let refused = async |path: &Path| {
        let address = Address::parse(path.to_str().unwrap(), Path::new("/")).unwrap();
        data.sources.resolve(&address, &Want::Head).await.unwrap_err().to_string()
    };
    let plain = tempfile::tempdir().unwrap();
    assert!(refused(plain.path()).await.contains("make it one with: git init"));
    assert!(refused(&plain.path().join("gone")).await.contains("no such directory"));
    let repo = Repo::new();
    repo.write("sub/x", "");
    assert!(refused(&repo.path().join("sub")).await.contains("it is a part of"));
    assert!(refused(&repo.path().join("a.txt")).await.contains("it is a file"));

    repo.commit("a.txt", "two\n", "second");
    let copy = tempfile::tempdir().unwrap();
    let from = format!("file://{}", repo.path().display());
    git_in(copy.path(), &["clone", "-q", "--depth", "1", &from, "shallow"]);
    assert!(refused(&copy.path().join("shallow")).await.contains("fetch --unshallow"));
}

#[tokio::test]
async fn an_address_that_does_not_answer_says_what_git_said() {
    let data = Data::new();
    // Nobody listens on port 1.
    let address = Address::parse("http://127.0.0.1:1/shop.git", Path::new("/")).unwrap();
    let error = data.sources.resolve(&address, &Want::Head).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot reach http://127.0.0.1:1/shop.git: "), "{error}");
    assert!(error.contains("unable to access") || error.contains("not found"), "{error}");
}

#[tokio::test]
async fn a_clone_stands_on_its_own() {
    let (repo, data) = (Repo::new(), Data::new());
    repo.git(&["tag", "-a", "v1.0", "-m", "one"]);
    repo.write("run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(repo.path().join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("a.txt", repo.path().join("link")).unwrap();
    repo.write(".gitattributes", "*.dos text eol=crlf\n*.bin filter=evil\n");
    repo.git(&["config", "filter.evil.smudge", "touch /tmp/evil"]);
    repo.commit("x.dos", "a\nb\n", "second");
    let commit = data.resolve(&repo, Want::Head).await;
    let clone = data.clone(&repo, &commit, "workspace").await;
    std::fs::remove_dir_all(data.path().join("cache")).unwrap();

    assert_eq!(git_in(&clone, &["rev-parse", "HEAD"]), commit.sha.as_str());
    assert_eq!(git_in(&clone, &["branch", "--show-current"]), "main");
    assert_eq!(git_in(&clone, &["status", "--porcelain"]), "");
    assert!(git_in(&clone, &["describe"]).starts_with("v1.0-1-g"));
    assert_eq!(git_in(&clone, &["rev-parse", "origin/main"]), commit.sha.as_str());
    assert_eq!(git_in(&clone, &["remote", "get-url", "origin"]), repo.address().to_string());
    git_in(&clone, &["fsck", "--strict"]);
    assert!(!clone.join(".git/objects/info/alternates").exists());
    assert_eq!(std::fs::metadata(clone.join("run.sh")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read_link(clone.join("link")).unwrap(), Path::new("a.txt"));
    assert_eq!(std::fs::read(clone.join("x.dos")).unwrap(), b"a\r\nb\r\n");
    // Git can work in it.
    std::fs::write(clone.join("a.txt"), "changed").unwrap();
    git_in(&clone, &["commit", "-q", "-a", "-m", "third"]);
    assert_eq!(std::fs::metadata(&clone).unwrap().mode() & 0o777, 0o755);
}

/// A git that fetches leaves files beside the objects for a moment. They may be gone before they are linked.
#[tokio::test]
async fn a_clone_takes_nothing_of_a_fetch_that_is_under_way() {
    let (repo, data) = (Repo::new(), Data::new());
    let commit = data.resolve(&repo, Want::Head).await;
    let passing = ["pack-1.keep", "pack-2.lock", "tmp_pack_3"];
    for name in passing {
        std::fs::write(data.cache(&repo).join("objects/pack").join(name), "").unwrap();
    }
    let clone = data.clone(&repo, &commit, "clone").await;
    for name in passing {
        assert!(!clone.join(".git/objects/pack").join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_clone_takes_an_odd_branch_or_none_and_no_full_directory() {
    let (repo, data) = (Repo::new(), Data::new());
    let mut commit = data.resolve(&repo, Want::Head).await;
    for (name, shown) in [("feature/$(rm)'\"", "feature/$(rm)'\""), ("", ""), ("a b", ""), ("../x", "")] {
        commit.branch = name.to_owned();
        let clone = data.clone(&repo, &commit, &format!("w{}", name.len())).await;
        assert_eq!(git_in(&clone, &["branch", "--show-current"]), shown);
        assert_eq!(git_in(&clone, &["rev-parse", "HEAD"]), commit.sha.as_str());
    }
    let full = data.path().join("full");
    std::fs::create_dir(&full).unwrap();
    data.sources.clone_into(&repo.address(), &commit.sha, "main", &full).await.unwrap();
    let error = data.sources.clone_into(&repo.address(), &commit.sha, "main", &full).await.unwrap_err();
    assert!(matches!(error, Error::Disk { .. }), "{error}");
    // Nothing half done stays beside it.
    let beside = std::fs::read_dir(data.path()).unwrap().flatten();
    assert!(!beside.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".clone")));
}

#[tokio::test]
async fn submodules_stay_uninitialised() {
    let (inner, repo, data) = (Repo::new(), Repo::new(), Data::new());
    let from = inner.path().to_str().unwrap();
    repo.git(&["-c", "protocol.file.allow=always", "submodule", "add", "-q", from, "inner"]);
    repo.git(&["commit", "-q", "-m", "with a submodule"]);
    let commit = data.resolve(&repo, Want::Head).await;
    let clone = data.clone(&repo, &commit, "workspace").await;
    assert_eq!(std::fs::read_dir(clone.join("inner")).unwrap().count(), 0);
    assert_eq!(git_in(&clone, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn names_that_are_not_utf8_are_read_as_latin_1() {
    use std::os::unix::ffi::OsStrExt;
    let (repo, data) = (Repo::new(), Data::new());
    let name = std::ffi::OsStr::from_bytes(b"J\xfcrgen");
    let path = std::ffi::OsStr::from_bytes(b"\xfcber.txt");
    std::fs::write(repo.path().join(path), "x").unwrap();
    repo.git(&["add", "-A"]);
    let mut command = Command::new("git");
    command.current_dir(repo.path()).args([
        "-c",
        "i18n.commitEncoding=ISO-8859-1",
        "commit",
        "-q",
        "-m",
        "second",
    ]);
    command.envs([("GIT_AUTHOR_EMAIL", "j@example.com"), ("GIT_COMMITTER_NAME", "x")]);
    command.env("GIT_COMMITTER_EMAIL", "x@example.com").env("GIT_AUTHOR_NAME", name);
    assert!(command.output().unwrap().status.success());
    let commit = data.resolve(&repo, Want::Head).await;
    assert_eq!(commit.author, "Jürgen <j@example.com>");
    let clone = data.clone(&repo, &commit, "workspace").await;
    assert_eq!(std::fs::read(clone.join(path)).unwrap(), b"x");
}

#[tokio::test]
async fn between_lists_what_a_promotion_ships() {
    let (repo, data) = (Repo::new(), Data::new());
    let (address, first) = (repo.address(), repo.head());
    repo.commit("b/c.txt", "two\n", "second\n\nbody");
    repo.git(&["rm", "-q", "a.txt"]);
    let third = repo.commit("d.txt", "three\n", "third");
    data.resolve(&repo, Want::Head).await;
    let ships = data.sources.between(&address, &first, &third).await.unwrap();
    let subjects: Vec<_> = ships.commits.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(subjects, ["third", "second"]);
    assert_eq!(ships.files, ["a.txt", "b/c.txt", "d.txt"]);
    assert!(!ships.rollback);

    let back = data.sources.between(&address, &third, &first).await.unwrap();
    assert!(back.rollback && back.commits.is_empty());
    assert_eq!(back.files, ships.files);
    assert_eq!(data.sources.between(&address, &first, &first).await.unwrap(), Between::default());

    let script = "git commit-tree -p $(git rev-parse HEAD) -m more HEAD^{tree} | xargs git reset -q --soft";
    let script = format!("set -e; for i in $(seq {COMMITS_LIMIT}); do {script}; done");
    repo.git(&["-c", &format!("alias.more=!{script}"), "more"]);
    (0..=FILES_LIMIT).for_each(|number| repo.write(&format!("many/{number}"), ""));
    let last = repo.commit("e.txt", "", "last");
    data.resolve(&repo, Want::Head).await;
    let many = data.sources.between(&address, &first, &last).await.unwrap();
    assert_eq!((many.commits.len(), many.files.len()), (COMMITS_LIMIT, FILES_LIMIT));
    assert_eq!(many.commits[0].subject, "last");
    let unknown: CommitSha = "0123456789012345678901234567890123456789".parse().unwrap();
    let error = data.sources.between(&address, &unknown, &last).await.unwrap_err().to_string();
    assert!(error.contains("rewritten"), "{error}");
}

#[tokio::test]
async fn what_is_not_committed_is_counted() {
    let (repo, data) = (Repo::new(), Data::new());
    assert_eq!(data.sources.dirty(&repo.address()).await, Some(0));
    repo.write("a.txt", "changed");
    repo.write("new.txt", "");
    assert_eq!(data.sources.dirty(&repo.address()).await, Some(2));
    let remote = Address::parse("https://example.com/shop", Path::new("/")).unwrap();
    assert_eq!(data.sources.dirty(&remote).await, None);
}

#[tokio::test]
async fn a_pinned_commit_outlives_its_branch() {
    let (repo, data) = (Repo::new(), Data::new());
    repo.git(&["checkout", "-q", "-b", "gone"]);
    repo.commit("b.txt", "x", "second");
    let commit = data.resolve(&repo, branch("gone")).await;
    let run: RunId = "shop/7".parse().unwrap();
    data.sources.pin(&repo.address(), &run, &commit.sha).await.unwrap();
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["branch", "-q", "-D", "gone"]);
    data.resolve(&repo, Want::Head).await;
    git_in(&data.cache(&repo), &["gc", "-q", "--prune=now"]);
    // The source is away, and the commit is still here.
    std::fs::rename(repo.path().join(".git"), repo.path().join("hidden")).unwrap();
    assert_eq!(data.resolve(&repo, revision(commit.sha.as_str())).await.sha, commit.sha);
    data.clone(&repo, &commit, "workspace").await;
}

#[tokio::test]
async fn a_pin_that_was_cut_short_is_made_again() {
    let (repo, data) = (Repo::new(), Data::new());
    let commit = data.resolve(&repo, Want::Head).await;
    // What a process leaves that is killed in the middle of writing the reference.
    let runs = data.cache(&repo).join("refs/windlass/runs/shop");
    std::fs::create_dir_all(&runs).unwrap();
    std::fs::write(runs.join("7.lock"), "").unwrap();
    data.sources.pin(&repo.address(), &"shop/7".parse().unwrap(), &commit.sha).await.unwrap();
    assert_eq!(std::fs::read_to_string(runs.join("7")).unwrap().trim(), commit.sha.as_str());
}

#[tokio::test]
async fn a_damaged_cache_heals() {
    let (repo, data) = (Repo::new(), Data::new());
    let commit = data.resolve(&repo, Want::Head).await;
    let cache = data.cache(&repo);
    let damages: [(&str, &dyn Fn()); 5] = [
        ("no objects", &|| {
            std::fs::remove_dir_all(cache.join("objects")).unwrap();
            std::fs::create_dir(cache.join("objects")).unwrap();
        }),
        ("no HEAD", &|| std::fs::remove_file(cache.join("HEAD")).unwrap()),
        ("a lock that stayed", &|| {
            std::fs::write(cache.join("packed-refs.lock"), "").unwrap();
            std::fs::write(cache.join("refs/heads/main.lock"), "").unwrap();
            std::fs::write(cache.join("config.lock"), "").unwrap();
        }),
        ("a rotten pack", &|| {
            for entry in std::fs::read_dir(cache.join("objects/pack")).unwrap().flatten() {
                std::fs::remove_file(entry.path()).unwrap();
                std::fs::write(entry.path(), b"rot").unwrap();
            }
        }),
        ("nothing at all", &|| std::fs::remove_dir_all(&cache).unwrap()),
    ];
    for (number, (what, damage)) in damages.iter().enumerate() {
        // Found by the next fetch, and by a clone that fetches nothing.
        damage();
        repo.commit("a.txt", what, what);
        let newer = data.resolve(&repo, Want::Head).await;
        assert_eq!(newer.message, *what);
        damage();
        let clone = data.clone(&repo, &commit, &format!("workspace-{number}")).await;
        git_in(&clone, &["fsck"]);
    }
}

#[tokio::test]
async fn many_at_once_share_a_cache() {
    let (repo, data) = (Repo::new(), Data::new());
    (0..300).for_each(|number| repo.write(&format!("d{}/{number}", number % 9), "some text\n"));
    let sha = repo.commit("b.txt", "x", "many files");
    let address = repo.address();
    let clones = (0..8).map(|number| {
        // As another process would: nothing is shared but the directory.
        let (sources, address) = (Sources::new(data.path()), address.clone());
        let directory = data.path().join(format!("workspace-{number}"));
        async move {
            let commit = sources.resolve(&address, &Want::Head).await?;
            sources.clone_into(&address, &commit.sha, &commit.branch, &directory).await?;
            Ok::<_, Error>(directory)
        }
    });
    for clone in futures_util::future::join_all(clones).await {
        let clone = clone.unwrap();
        assert_eq!(git_in(&clone, &["rev-parse", "HEAD"]), sha.as_str());
        assert_eq!(git_in(&clone, &["status", "--porcelain"]), "");
    }
}

#[tokio::test]
async fn a_repository_of_another_user_is_read() {
    let (repo, data) = (Repo::new(), Data::new());
    for entry in walkdir::WalkDir::new(repo.path()).into_iter().flatten() {
        // Only root may give files away; for everybody else this is the plain case.
        let _ = std::os::unix::fs::lchown(entry.path(), Some(12345), Some(12345));
    }
    assert_eq!(data.resolve(&repo, Want::Head).await.message, "first");
}

#[tokio::test]
async fn dropping_ends_git() {
    let (repo, data) = (Repo::new(), Data::new());
    // A pipe where git looks for the packed references: it waits there for ever.
    let pipe = repo.path().join(".git/packed-refs");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let (sources, address) = (data.sources.clone(), repo.address());
    let task = tokio::spawn(async move { sources.resolve(&address, &Want::Head).await });
    // Opening it for writing succeeds when somebody reads.
    let writer =
        tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe).unwrap())
            .await
            .unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // The reader is gone when writing fails; until then what is written is thrown away by nobody.
    let gone = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut writer = writer;
        loop {
            if let Err(error) = writer.write_all(&[b'#'; 65536]) {
                return error.kind();
            }
        }
    });
    let kind = tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap().unwrap();
    assert_eq!(kind, std::io::ErrorKind::BrokenPipe);
}

/// Whoever stops waiting for a clone, at whatever moment, finds neither it nor anything half done.
#[tokio::test]
async fn dropping_a_clone_leaves_nothing() {
    let (repo, data) = (Repo::new(), Data::new());
    for number in 0..500 {
        repo.write(&format!("{number}.txt"), &"a line\n".repeat(number));
    }
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-q", "-m", "many files"]);
    let commit = data.resolve(&repo, Want::Head).await;
    let parent = data.path().join("clones");
    for number in 0..8 {
        let (sources, address, commit) = (data.sources.clone(), repo.address(), commit.clone());
        let directory = parent.join(format!("{number}"));
        let cloning = {
            let directory = directory.clone();
            tokio::spawn(async move {
                sources.clone_into(&address, &commit.sha, &commit.branch, &directory).await.unwrap();
            })
        };
        // Later in each round: when there are so many files.
        let written = async || {
            while fresh(&parent)
                .is_none_or(|fresh| std::fs::read_dir(fresh).map_or(0, Iterator::count) < number * 60)
                && !directory.exists()
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), written()).await.unwrap();
        cloning.abort();
        let dropped = cloning.await.is_err_and(|error| error.is_cancelled());
        let gone = async || {
            while fresh(&parent).is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), gone()).await.unwrap();
        // It may have been done at the very moment.
        if !dropped || directory.exists() {
            assert_eq!(git_in(&directory, &["status", "--porcelain"]), "");
        }
    }
}

/// A clone that is being made in this directory.
fn fresh(parent: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(parent).ok()?.flatten();
    let names = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".clone-");
    entries.into_iter().find(names).map(|entry| entry.path())
}
