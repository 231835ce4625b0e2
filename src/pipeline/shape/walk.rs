//! Holds a tree against its shape.

use std::ops::Range;

use crate::ids;

use super::super::problem::Problems;
use super::super::text::Share;
use super::super::yaml::{Entry, Node, Value};
use super::super::{cron, expression, patterns, text};
use super::{Key, Keys, Kinds, Need, Shape, Table, one_of};

/// Checks that `node` has that shape, adding to `problems` everything that is wrong. `what` names the
/// place for messages: `the pipeline`, `stage "test"`, `"timeout"`.
pub fn check(shape: &'static Shape, node: &Node, what: &str, source: &str, problems: &mut Problems) {
    let start = node.entries().first().map_or(node.at.clone(), |entry| entry.at.clone());
    Walk { source, problems, crons: 0 }.visit(shape, node, what, start);
}

struct Walk<'a> {
    source: &'a str,
    problems: &'a mut Problems,
    /// How many were checked. Those beyond the limit are not, as each costs; that they are too many is
    /// said where schedules are counted.
    crons: usize,
}

impl Walk<'_> {
    /// `place` is where the key stands that leads to `node`: what is missing in a map is missing there.
    fn visit(&mut self, shape: &'static Shape, node: &Node, what: &str, place: Range<usize>) {
        match (shape, &node.value) {
            (Shape::Maybe(_), _) if node.is_null() => {}
            (Shape::Maybe(inner), _) => self.visit(inner, node, what, place),
            (Shape::OneOrList(item), Value::Scalar(_)) => self.visit(item, node, what, place),
            (Shape::OneOrList(item @ Shape::Table(_)), Value::Map(_)) => self.visit(item, node, what, place),
            (Shape::Switches(table), Value::Map(_)) => self.table(table, node, what, place),
            (Shape::Switches(table), Value::Scalar(_)) if !node.is_null() => self.switch(table, node, what),
            (Shape::Switches(table), Value::List(items)) if !items.is_empty() => {
                items.iter().for_each(|item| self.switch(table, item, what));
            }
            (Shape::List(item) | Shape::OneOrList(item), Value::List(items)) => {
                if items.is_empty() {
                    self.problems.error(node.at.clone(), format!("{what} is an empty list"));
                }
                for entry in items {
                    let inner = match item {
                        Shape::Table(_) => format!("an entry of {what}"),
                        _ => what.to_owned(),
                    };
                    let start = entry.entries().first().map_or(entry.at.clone(), |entry| entry.at.clone());
                    self.visit(item, entry, &inner, start);
                }
            }
            (Shape::Map(keys, values), Value::Map(_)) => self.map(*keys, values, node, what),
            (Shape::Table(table), Value::Map(_)) => self.table(table, node, what, place),
            (Shape::Kinds(kinds), Value::Map(_)) => self.kinds(kinds, node, what, place),
            (
                Shape::List(_)
                | Shape::OneOrList(_)
                | Shape::Map(..)
                | Shape::Table(_)
                | Shape::Switches(_)
                | Shape::Kinds(_),
                _,
            )
            | (_, Value::List(_) | Value::Map(_)) => self.mismatch(shape, node, what),
            (_, Value::Scalar(_)) => self.scalar(shape, node, what),
        }
    }

    fn mismatch(&mut self, shape: &Shape, node: &Node, what: &str) {
        let message = format!("{what} is {}; it should be {}", node.kind(), shape.expected());
        let problem = self.problems.error(node.at.clone(), message);
        match (shape, node.is_null()) {
            (Shape::Kinds(_), true) => problem.help("say what it `uses`, or give it `steps`"),
            (Shape::Text | Shape::Prose | Shape::Template | Shape::Command, true) => {
                problem.help("an empty text is written \"\"; the word null in quotes")
            }
            _ => problem,
        };
    }

    fn map(&mut self, keys: Keys, values: &'static Shape, node: &Node, what: &str) {
        if node.entries().is_empty() && matches!(keys, Keys::SomeNames(_)) {
            self.problems.error(node.at.clone(), format!("{what} is empty"));
        }
        for entry in node.entries() {
            let checked = match keys {
                Keys::Names(_) | Keys::SomeNames(_) => ids::check_name(&entry.key)
                    .map_err(|error| format!("{:?} cannot be a name: {error}", entry.key)),
                Keys::Variables => text::variable(&entry.key),
                Keys::Params => text::param(&entry.key),
                Keys::Repositories => text::repository(&entry.key),
                Keys::People => text::person(&entry.key),
            };
            if let Err(message) = checked {
                self.problems.error(entry.at.clone(), message);
            }
            let inner = match keys {
                Keys::Names(word) | Keys::SomeNames(word) => format!("{word} {:?}", entry.key),
                Keys::Variables => format!("{:?}", entry.key),
                Keys::Params => format!("param {:?}", entry.key),
                Keys::Repositories => format!("repository {:?}", entry.key),
                Keys::People => format!("person {:?}", entry.key),
            };
            self.visit(values, &entry.value, &inner, entry.at.clone());
        }
    }

    /// The name of a key that needs nothing more than to be there.
    fn switch(&mut self, table: &'static Table, node: &Node, what: &str) {
        let known = table.keys.iter().map(|key| key.name);
        let Some(text) = node.text() else {
            return self.mismatch(&Shape::Switches(table), node, &format!("an entry of {what}"));
        };
        match table.keys.iter().find(|key| key.name == text) {
            Some(Key { shape: Shape::Maybe(_), .. }) => {}
            Some(_) => {
                let message = format!("{what}: {text:?} says too little alone");
                self.problems
                    .error(node.at.clone(), message)
                    .help(format!("write {what} as a map: {{ {text}: … }}"));
            }
            None => {
                let all: Vec<&str> = known.clone().collect();
                let problem =
                    self.problems.unknown(node.at.clone(), format!("{what} cannot be {text:?}"), text, known);
                problem.help(format!("{} has the keys {}", table.what, all.join(", ")));
            }
        }
    }

    fn table(&mut self, table: &'static Table, node: &Node, what: &str, place: Range<usize>) {
        for entry in node.entries() {
            match table.keys.iter().find(|key| key.name == entry.key) {
                Some(key) => self.key(key, entry),
                None => self.unknown_key(table, entry, what),
            }
        }
        self.missing(table, node, what, place);
    }

    fn key(&mut self, key: &'static Key, entry: &Entry) {
        match key.need {
            Need::Later => {
                self.problems.error(entry.at.clone(), format!("{:?} is not supported yet", key.name));
            }
            _ => self.visit(&key.shape, &entry.value, &format!("{:?}", key.name), entry.at.clone()),
        }
    }

    fn unknown_key(&mut self, table: &Table, entry: &Entry, what: &str) {
        let message = format!("unknown key {:?} in {what}", entry.key);
        let known = table.keys.iter().filter(|key| key.need != Need::Later).map(|key| key.name);
        let all: Vec<&str> = known.clone().collect();
        let problem = self.problems.unknown(entry.at.clone(), message, &entry.key, known);
        if entry.key == "<<" {
            problem
                .help("merge keys are not supported; write the keys out, or use an alias for a whole value");
        } else if problem.suggestion.is_none() {
            problem.help(format!("{} has the keys {}", table.what, all.join(", ")));
        }
    }

    fn missing(&mut self, table: &Table, node: &Node, what: &str, place: Range<usize>) {
        for key in
            table.keys.iter().filter(|key| key.need == Need::Required && node.entry(key.name).is_none())
        {
            self.problems
                .error(place.clone(), format!("{what} has no {:?}", key.name))
                .help(format!("{:?}: {}", key.name, key.doc));
        }
        let given: Vec<_> =
            node.entries().iter().filter(|entry| table.one_of.contains(&entry.key.as_str())).collect();
        let supported: Vec<String> = (table.keys.iter())
            .filter(|key| key.need != Need::Later && table.one_of.contains(&key.name))
            .map(|key| format!("{:?}", key.name))
            .collect();
        match given.as_slice() {
            [] if !table.one_of.is_empty() => {
                self.problems.error(place, format!("{what} has no {}", supported.join(" or ")));
            }
            [_, second, ..] => {
                let message = format!("{what} has more than one of {}", supported.join(" and "));
                self.problems.error(second.at.clone(), message);
            }
            _ => {}
        }
    }

    fn kinds(&mut self, kinds: &'static Kinds, node: &Node, what: &str, place: Range<usize>) {
        let Some(chosen) = node.entry(kinds.key) else {
            return self.kind(kinds, kinds.default, node, what, place);
        };
        let Some(word) = chosen.value.text() else {
            let shape = &Shape::Name;
            return self.mismatch(shape, &chosen.value, &format!("{:?}", kinds.key));
        };
        match kinds.kinds.iter().find(|(name, _)| *name == word) {
            Some((_, table)) => self.kind(kinds, table, node, what, place),
            None => {
                self.unknown_kind(kinds, word, &chosen.value);
                // The keys that every kind has can be checked all the same.
                for entry in node.entries() {
                    let known = kinds
                        .default
                        .keys
                        .iter()
                        .find(|key| key.name == entry.key && key.need == Need::Optional);
                    if let Some(key) = known {
                        self.key(key, entry);
                    }
                }
            }
        }
    }

    fn kind(
        &mut self,
        kinds: &'static Kinds,
        table: &'static Table,
        node: &Node,
        what: &str,
        place: Range<usize>,
    ) {
        for entry in node.entries() {
            if let Some(key) = table.keys.iter().find(|key| key.name == entry.key) {
                self.key(key, entry);
            } else if entry.key == kinds.key {
                continue;
            } else if entry.key == "steps" {
                let message =
                    format!("{what} has both {:?} and \"steps\"; a stage has one of them", kinds.key);
                self.problems.error(entry.at.clone(), message);
            } else if let Some(owner) = owner(kinds, &entry.key) {
                let message = format!("{} takes no {:?}", table.what, entry.key);
                self.problems.error(entry.at.clone(), message).help(format!("it belongs to {}", owner.what));
            } else {
                self.unknown_key(table, entry, what);
            }
        }
        if node.entry(kinds.key).is_none() && node.entry("steps").is_none() {
            self.problems
                .error(place, format!("{what} has neither {:?} nor \"steps\"", kinds.key))
                .help("say what it `uses`, or give it `steps` of shell");
            return;
        }
        self.missing(table, node, what, place);
    }

    fn unknown_kind(&mut self, kinds: &Kinds, word: &str, node: &Node) {
        let words = kinds.kinds.iter().map(|(name, _)| *name);
        let all: Vec<&str> = words.clone().collect();
        if word.contains('/') {
            self.problems.error(
                node.at.clone(),
                format!("{word:?} names a plugin, and plugins are not supported yet"),
            );
        } else if word == "script" {
            self.problems
                .error(node.at.clone(), "a stage of shell has no \"uses\"")
                .help("leave `uses` out and list `steps`");
        } else {
            let message = format!("unknown {:?}: {word:?}", kinds.key);
            let problem = self.problems.unknown(node.at.clone(), message, word, words);
            problem.help(format!("a stage uses {}, or lists `steps`", all.join(", ")));
        }
    }

    fn scalar(&mut self, shape: &'static Shape, node: &Node, what: &str) {
        let Some(text) = node.text() else { return self.mismatch(shape, node, what) };
        match shape {
            Shape::Template if text.len() > expression::VALUE_LIMIT => {
                let limit = expression::VALUE_LIMIT;
                let message =
                    format!("{what} has {} bytes; an environment variable has at most {limit}", text.len());
                self.problems.error(node.at.clone(), message);
            }
            Shape::Prose | Shape::Template => {}
            Shape::Condition if text.trim().is_empty() => self.mismatch_empty(node, what),
            Shape::Condition => {}
            Shape::Command => {
                if text.trim().is_empty() {
                    self.mismatch_empty(node, what);
                }
                self.no_expression(node, text, what);
            }
            _ => self.leaf(shape, node, text, what),
        }
    }

    fn leaf(&mut self, shape: &'static Shape, node: &Node, text: &str, what: &str) {
        if text.contains("${{") && !matches!(shape, Shape::Prose) {
            return self.no_expression(node, text, what);
        }
        let checked =
            match shape {
                Shape::Name => {
                    ids::check_name(text).map_err(|error| format!("{text:?} cannot be a name: {error}"))
                }
                Shape::Variable => text::variable(text),
                Shape::Path => text::path(text).map(drop),
                Shape::AnyPath if text.trim().is_empty() => Err("a path cannot be empty".to_owned()),
                Shape::UrlPath => url_path(text),
                Shape::Flag => flag(node, what),
                Shape::PerCent => per_cent(node, what),
                Shape::Pattern => patterns::check(text),
                Shape::PathPattern => patterns::check_path(text),
                Shape::Branch => text::branch(text),
                Shape::Cron if self.crons >= cron::LIMIT => Ok(()),
                Shape::Cron => {
                    self.crons += 1;
                    cron::check(text)
                }
                Shape::TimeZone => return self.timezone(node, text),
                Shape::Repository => text::repository(text),
                Shape::Login => text::login(text),
                Shape::Email => text::email(text),
                Shape::Whole(least, most) => whole(node, *least, *most, what).map(drop),
                Shape::Time(least) => text::duration(text)
                    .map_err(|error| format!("{what}: {error}"))
                    .and_then(|time| match time < *least {
                        true => Err(format!(
                            "{what} is {text}; it should be at least {}",
                            text::show_duration(*least)
                        )),
                        false => Ok(()),
                    }),
                Shape::Size(least) => {
                    text::size(text).map_err(|error| format!("{what}: {error}")).and_then(|bytes| match bytes
                        < *least
                    {
                        true => Err(format!("{what} is {text}; it should be at least {least} bytes")),
                        false => Ok(()),
                    })
                }
                Shape::Share(least) => text::share(text)
                    .map_err(|error| format!("{what}: {error}"))
                    .and_then(|share| match share {
                        Share::Count(number) | Share::Percent(number) if number < *least => {
                            Err(format!("{what} is {text}; it should be at least {least}"))
                        }
                        _ => Ok(()),
                    }),
                Shape::Word(words, later) => return self.word(words, later, node, text, what),
                _ => Ok(()),
            };
        if let Err(message) = checked {
            let problem = self.problems.error(node.at.clone(), message);
            if matches!(shape, Shape::Time(_)) {
                problem.help("durations are written 500ms, 5s, 15m, 2h or 1h30m");
            }
        }
    }

    fn word(&mut self, words: &[&str], later: &[&str], node: &Node, text: &str, what: &str) {
        if later.contains(&text) {
            self.problems.error(node.at.clone(), format!("{what}: {text:?} is not supported yet"));
        } else if !words.contains(&text) {
            let message = format!("{what} cannot be {text:?}");
            let known = words.iter().copied();
            let problem = self.problems.unknown(node.at.clone(), message, text, known);
            problem.help(format!("{what} is {}", one_of(words)));
        }
    }

    fn timezone(&mut self, node: &Node, text: &str) {
        if let Err(message) = text::timezone(text) {
            let known = text::timezones().iter().map(String::as_str);
            self.problems
                .unknown(node.at.clone(), message, text, known)
                .help("time zones have names such as Europe/Berlin, America/New_York or UTC");
        }
    }

    fn mismatch_empty(&mut self, node: &Node, what: &str) {
        self.problems.error(node.at.clone(), format!("{what} is empty"));
    }

    /// Reports every expression of a text that takes none.
    fn no_expression(&mut self, node: &Node, text: &str, what: &str) {
        let found = expression::occurrences(text);
        if found.is_empty() {
            return;
        }
        let locator = node.locator(self.source);
        for found in found {
            let at = locator.locate(found.start)..locator.locate(found.end.saturating_sub(1)) + 1;
            let inner = text.get(found.clone()).unwrap_or_default();
            let expression::Refusal { message, help } = expression::refusal(inner, what);
            self.problems.error(at, message).help(help);
        }
    }
}

/// Another kind that has this key.
fn owner(kinds: &Kinds, key: &str) -> Option<&'static Table> {
    let tables = kinds.kinds.iter().map(|(_, table)| *table).chain([kinds.default]);
    tables
        .into_iter()
        .find(|table| table.keys.iter().any(|known| known.name == key && known.need != Need::Later))
}

/// The whole number that a scalar without quotes is.
pub fn whole(node: &Node, least: u64, most: u64, what: &str) -> Result<u64, String> {
    let text =
        node.plain().ok_or_else(|| format!("{what} is text; it should be a whole number, without quotes"))?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if digits && (least..=most).contains(&number) => Ok(number),
        Ok(_) if digits && most == u64::from(u32::MAX) => {
            Err(format!("{what} is {text}; it should be at least {least}"))
        }
        _ if digits => Err(format!("{what} is {text}; it should be from {least} to {most}")),
        _ => Err(format!("{what} is {text:?}; it should be a whole number")),
    }
}

fn flag(node: &Node, what: &str) -> Result<(), String> {
    match node.plain() {
        Some("true" | "false") => Ok(()),
        _ => Err(format!("{what} should be true or false, without quotes")),
    }
}

fn per_cent(node: &Node, what: &str) -> Result<(), String> {
    let text =
        node.plain().ok_or_else(|| format!("{what} is text; it should be a number, without quotes"))?;
    text::per_cent(text).map(drop).map_err(|error| format!("{what}: {error}"))
}

fn url_path(text: &str) -> Result<(), String> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    match text.starts_with('/') && plain && !text.contains('#') {
        true => Ok(()),
        false => Err(format!("{text:?} is no path of a URL; it starts with \"/\" and has no blanks")),
    }
}
