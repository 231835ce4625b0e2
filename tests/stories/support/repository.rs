//! A git repository with a service in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub struct Repository {
    pub path: PathBuf,
    git: git2::Repository,
}

impl Repository {
    pub fn new(path: PathBuf) -> Self {
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let git = git2::Repository::init_opts(&path, &options).unwrap();
        Self { path, git }
    }

    /// Copies a directory's files into it.
    pub fn copy(&self, from: &Path) {
        for entry in walkdir::WalkDir::new(from) {
            let entry = entry.unwrap();
            let to = self.path.join(entry.path().strip_prefix(from).unwrap());
            match entry.file_type().is_dir() {
                true => fs::create_dir_all(to).unwrap(),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
    }

    pub fn write_program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Replaces a piece of a file, which has to be there.
    pub fn edit(&self, name: &str, old: &str, new: &str) {
        super::world::edit(&self.path.join(name), old, new);
    }

    /// Commits everything as it is; answers the commit's hash.
    pub fn commit(&self, message: &str) -> String {
        self.commit_as("Octo Cat", message)
    }

    pub fn commit_as(&self, author: &str, message: &str) -> String {
        let mut index = self.git.index().unwrap();
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
        index.update_all(["*"], None).unwrap();
        index.write().unwrap();
        let tree = self.git.find_tree(index.write_tree().unwrap()).unwrap();
        let address = format!("{}@example.com", author.to_lowercase().replace(' ', ""));
        let author = git2::Signature::now(author, &address).unwrap();
        let parent = self.git.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<&git2::Commit> = parent.iter().collect();
        self.git.commit(Some("HEAD"), &author, &author, message, &tree, &parents).unwrap().to_string()
    }
}
