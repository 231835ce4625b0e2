//! The pipelines that runs start from by themselves: the files of a directory, as they are now.
//!
//! Always true: no two pipelines of a catalog have one name; what a file says is either legal, or it is
//! its last version that was, and then `problem` says what is wrong with it now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Settings};
use crate::ids::PipelineName;
use crate::pipeline::{self, Surroundings, model::Pipeline};

/// The files of a directory, and the settings that they were read with.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// By the file's name.
    pub files: BTreeMap<String, Entry>,
    pub settings: Arc<Settings>,
    /// Why the directory cannot be read now; the pipelines are kept.
    pub problem: Option<String>,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// What runs start with: the last version that was good.
    pub listed: Option<Arc<Listed>>,
    /// What is wrong with the file as it is now.
    pub problem: Option<String>,
}

/// A pipeline that runs can start with.
#[derive(Debug)]
pub struct Listed {
    pub pipeline: Pipeline,
    pub text: String,
    /// Absolute.
    pub path: PathBuf,
}

/// What one look at a file found.
type Read = Result<Arc<Listed>, String>;

impl Catalog {
    /// Every pipeline.
    pub fn pipelines(&self) -> impl Iterator<Item = &Arc<Listed>> {
        self.files.values().filter_map(|entry| entry.listed.as_ref())
    }

    pub fn pipeline(&self, name: &PipelineName) -> Option<&Arc<Listed>> {
        self.pipelines().find(|listed| listed.pipeline.name == *name)
    }

    /// Files that cannot be read as they are now.
    pub fn broken(&self) -> impl Iterator<Item = (&String, &String)> {
        self.files.iter().filter_map(|(file, entry)| Some((file, entry.problem.as_ref()?)))
    }

    /// Looks at the directory. What is not good any more stays as it was.
    pub fn look(&self, directory: Option<&Path>, settings: Arc<Settings>) -> Self {
        let mut problem = None;
        let surroundings = settings.surroundings();
        let files = match directory.map(|directory| (directory, names(directory))) {
            None => BTreeMap::new(),
            Some((directory, Ok(names))) => {
                let read = names.into_iter().map(|name| {
                    let read = read(&directory.join(&name), &surroundings);
                    (name, read)
                });
                self.with(read.collect())
            }
            Some((directory, Err(error))) => {
                problem = Some(format!("the pipelines in {} cannot be read: {error}", directory.display()));
                self.files.clone()
            }
        };
        Self { files, settings, problem }
    }

    /// The entries after a look at the files. A name stays with the file that has it.
    fn with(&self, files: BTreeMap<String, Read>) -> BTreeMap<String, Entry> {
        let before = |file: &String| self.files.get(file).and_then(|entry| entry.listed.clone());
        let keeps = |file: &String, read: &Read| match (before(file), read) {
            (Some(old), Ok(new)) if old.pipeline.name == new.pipeline.name => Some(old.pipeline.name.clone()),
            (Some(old), Err(_)) => Some(old.pipeline.name.clone()),
            _ => None,
        };
        let mut owners: BTreeMap<PipelineName, String> = BTreeMap::new();
        for (file, read) in &files {
            if let Some(name) = keeps(file, read) {
                owners.entry(name).or_insert_with(|| file.clone());
            }
        }
        for (file, read) in &files {
            if let Ok(new) = read {
                owners.entry(new.pipeline.name.clone()).or_insert_with(|| file.clone());
            }
        }
        let mut taken = BTreeSet::new();
        let mut entry = |file: &String, read: Read| {
            let problem = match read {
                Ok(new) if owners.get(&new.pipeline.name) == Some(file) => {
                    taken.insert(new.pipeline.name.clone());
                    return Entry { listed: Some(new), problem: None };
                }
                Ok(new) => {
                    let name = &new.pipeline.name;
                    let owner = owners.get(name).map(String::as_str).unwrap_or_default();
                    format!("the pipeline {name} is in {owner} already; give one of them another name")
                }
                Err(problem) => problem,
            };
            let kept = before(file).filter(|old| {
                let name = &old.pipeline.name;
                owners.get(name).is_none_or(|owner| owner == file) && taken.insert(name.clone())
            });
            Entry { listed: kept, problem: Some(problem) }
        };
        files
            .into_iter()
            .map(|(file, read)| {
                let entry = entry(&file, read);
                (file, entry)
            })
            .collect()
    }
}

/// The pipeline files of a directory: `*.yaml` and `*.yml`, but for hidden ones.
fn names(directory: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if yaml && !name.starts_with('.') {
            names.insert(name);
        }
    }
    Ok(names)
}

fn read(path: &Path, surroundings: &Surroundings) -> Read {
    let shown = path.display().to_string();
    let bytes = config::read_file(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = pipeline::decode(&bytes, &shown).map_err(|problems| problems.to_string())?;
    let pipeline = pipeline::read_in(text, &shown, surroundings).map_err(|problems| problems.to_string())?;
    Ok(Arc::new(Listed { pipeline, text: text.to_owned(), path: path.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(name: &str, comment: &str) -> String {
        format!("# {comment}\nname: {name}\nstages: {{ say: {{ steps: [{{ run: echo }}] }} }}\n")
    }

    /// `file: pipeline` and `file!` for one with a problem.
    fn shown(catalog: &Catalog) -> Vec<String> {
        let line = |(file, entry): (&String, &Entry)| {
            let listed = entry.listed.as_ref().map_or("-", |listed| listed.pipeline.name.as_str());
            format!("{file}{} {listed}", if entry.problem.is_some() { "!" } else { ":" })
        };
        catalog.files.iter().map(line).collect()
    }

    #[test]
    fn a_broken_edit_keeps_the_last_good_version() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("a.yaml", &good("alpha", "one"));
        write("b.yml", &good("beta", "one"));
        write("notes.txt", "name: none");
        write(".hidden.yaml", &good("hidden", "one"));
        let catalog = Catalog::default().look(Some(directory.path()), Arc::default());
        assert_eq!(shown(&catalog), ["a.yaml: alpha", "b.yml: beta"]);

        write("a.yaml", "name: alpha\nstages: { say: { steps: [] } }\n");
        write("c.yaml", "name: [");
        let catalog = catalog.look(Some(directory.path()), Arc::default());
        assert_eq!(shown(&catalog), ["a.yaml! alpha", "b.yml: beta", "c.yaml! -"]);
        let alpha = catalog.pipeline(&"alpha".parse().unwrap()).unwrap();
        assert!(alpha.text.starts_with("# one"));
        let problem = catalog.files["a.yaml"].problem.clone().unwrap();
        assert!(problem.contains("a.yaml:2:"), "{problem}");

        write("a.yaml", &good("alpha", "two"));
        std::fs::remove_file(directory.path().join("b.yml")).unwrap();
        std::fs::remove_file(directory.path().join("c.yaml")).unwrap();
        let catalog = catalog.look(Some(directory.path()), Arc::default());
        assert_eq!(shown(&catalog), ["a.yaml: alpha"]);
        assert!(catalog.pipeline(&"alpha".parse().unwrap()).unwrap().text.starts_with("# two"));

        std::fs::remove_dir_all(directory.path()).unwrap();
        let catalog = catalog.look(Some(directory.path()), Arc::default());
        assert_eq!(shown(&catalog), ["a.yaml: alpha"]);
        assert!(catalog.problem.unwrap().contains("cannot be read"));
    }

    #[test]
    fn a_name_stays_with_the_file_that_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("b.yaml", &good("alpha", "first"));
        let catalog = Catalog::default().look(Some(directory.path()), Arc::default());
        write("a.yaml", &good("alpha", "second"));
        write("c.yaml", &good("gamma", "third"));
        let catalog = catalog.look(Some(directory.path()), Arc::default());
        assert_eq!(shown(&catalog), ["a.yaml! -", "b.yaml: alpha", "c.yaml: gamma"]);
        assert!(catalog.files["a.yaml"].problem.clone().unwrap().contains("is in b.yaml already"));
        // One that takes another's name keeps its own meanwhile.
        write("c.yaml", &good("alpha", "third"));
        let catalog = catalog.look(Some(directory.path()), Arc::default());
        assert_eq!(shown(&catalog), ["a.yaml! -", "b.yaml: alpha", "c.yaml! gamma"]);
        // The name comes free.
        std::fs::remove_file(directory.path().join("b.yaml")).unwrap();
        let catalog = catalog.look(Some(directory.path()), Arc::default());
        assert_eq!(shown(&catalog), ["a.yaml: alpha", "c.yaml! gamma"]);
    }
}
