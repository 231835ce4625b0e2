//! What a promotion ships, for people.

use super::text::{self, clean};
use crate::ids::EnvironmentName;
use crate::run::event::Shipment;

/// So many commits and files are listed; of the rest only the number is said.
const LISTED: usize = 10;

/// A line for each thing worth knowing before it is shipped to `environment`.
pub fn lines(ships: &Shipment, environment: &EnvironmentName) -> Vec<String> {
    let mut lines = Vec::new();
    if ships.rollback {
        lines.push(format!("this takes {environment} back: it runs a newer commit now"));
    }
    if let Some(image) = &ships.image {
        let parent = image.parent.as_ref().map(|parent| format!(", built on {parent}"));
        lines.push(format!("image {} ({}){}", image.name, image.id, parent.unwrap_or_default()));
    }
    match &ships.running_image {
        Some(running) => lines
            .push(format!("{environment} runs {running} of {}", text::commit(ships.running_commit.as_ref()))),
        None => lines.push(format!("nothing runs in {environment} yet")),
    }
    if !ships.commits.is_empty() {
        lines.push(format!("{}:", text::count(ships.commits.len(), "commit")));
    }
    for commit in ships.commits.iter().take(LISTED) {
        let subject = text::short(&clean(&commit.subject), 72);
        lines.push(format!("  {} {subject} ({})", commit.sha.short(), clean(&commit.author)));
    }
    more(&mut lines, ships.commits.len());
    if !ships.files.is_empty() {
        lines.push(format!("{} changed:", text::count(ships.files.len(), "file")));
    }
    lines.extend(ships.files.iter().take(LISTED).map(|file| format!("  {}", clean(file))));
    more(&mut lines, ships.files.len());
    let authors: Vec<String> = ships.authors.iter().map(|author| clean(author)).collect();
    if authors.len() > 1 {
        lines.push(format!("written by {}", authors[..authors.len().min(LISTED)].join(", ")));
        more(&mut lines, authors.len());
    }
    if !ships.config.is_empty() {
        lines.push("the environment of the instances changes:".to_owned());
    }
    lines.extend(ships.config.iter().map(|line| format!("  {}", clean(line))));
    if let Some(note) = &ships.note {
        lines.push(format!("not all of it is known: {}", clean(note)));
    }
    lines
}

fn more(lines: &mut Vec<String>, count: usize) {
    if count > LISTED {
        lines.push(format!("  … and {} more", count - LISTED));
    }
}
