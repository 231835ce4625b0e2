//! What an author may write, as one table of keys: reading checks a file against it, and
//! `windlass schema` prints it, so the two cannot differ.

use std::time::Duration;

mod walk;

pub use walk::{check, whole};

/// What may stand at one place.
#[derive(Debug)]
pub enum Shape {
    /// A text without expressions.
    Text,
    /// A text for people, in which anything may stand.
    Prose,
    /// A text with `${{ … }}` in it.
    Template,
    /// An expression that is true or false.
    Condition,
    /// Shell, in which no expression may stand.
    Command,
    /// A name of the convention that [`ids::check_name`] holds.
    Name,
    /// The name of an environment variable.
    Variable,
    /// A relative path that stays in its directory.
    Path,
    /// A path of the machine that runs this: relative or absolute.
    AnyPath,
    /// A path of a URL, `/healthz`.
    UrlPath,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// A duration, at least so long.
    Time(Duration),
    /// A number of bytes with its unit, at least so many.
    Size(u64),
    /// A number of members or a percentage, at least so much.
    Share(u32),
    /// One of these words; the second ones are known and not supported yet.
    Word(&'static [&'static str], &'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A number from 0 to 100.
    PerCent,
    /// A pattern of names of branches or tags.
    Pattern,
    /// A pattern of paths that stay in their directory.
    PathPattern,
    /// The name of a branch.
    Branch,
    /// The five fields of a cron.
    Cron,
    /// An IANA time zone.
    TimeZone,
    /// A repository on GitHub.
    Repository,
    Email,
    /// A login on GitHub.
    Login,
    /// A list of at least one.
    List(&'static Shape),
    /// One value, or a list of them.
    OneOrList(&'static Shape),
    /// A map whose keys the author chooses.
    Map(Keys, &'static Shape),
    Table(&'static Table),
    /// Nothing at all, or this.
    Maybe(&'static Shape),
    /// A table, or the names of its keys that need nothing more: one, or a list.
    Switches(&'static Table),
    /// A table that depends on what one key says.
    Kinds(&'static Kinds),
}

/// Keys that the author chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Names of the convention; the word is what each key names.
    Names(&'static str),
    /// The same, at least one.
    SomeNames(&'static str),
    Variables,
    Params,
    /// Repositories on GitHub.
    Repositories,
    /// Names that people act under.
    People,
}

/// A map with known keys.
#[derive(Debug)]
pub struct Table {
    /// What it is, for messages: `a bake stage`.
    pub what: &'static str,
    pub keys: &'static [Key],
    /// Exactly one of these keys stands there.
    pub one_of: &'static [&'static str],
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub need: Need,
    /// For the schema, and so for editors.
    pub doc: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
    /// Known, and refused as not supported yet.
    Later,
}

impl Key {
    pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, need: Need::Required, doc }
    }
    pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, need: Need::Optional, doc }
    }
    pub const fn later(name: &'static str) -> Self {
        Self { name, shape: Shape::Prose, need: Need::Later, doc: "" }
    }
}

/// Tables that are told apart by one key.
#[derive(Debug)]
pub struct Kinds {
    pub key: &'static str,
    /// Without the key.
    pub default: &'static Table,
    pub kinds: &'static [(&'static str, &'static Table)],
}

impl Shape {
    /// What should stand there, for messages.
    fn expected(&self) -> String {
        match self {
            Self::Text | Self::Prose | Self::Template => "text".into(),
            Self::Condition => "an expression that is true or false".into(),
            Self::Command => "a command".into(),
            Self::Name => "a name".into(),
            Self::Variable => "the name of an environment variable".into(),
            Self::Path | Self::AnyPath => "a path".into(),
            Self::UrlPath => "a path such as /healthz".into(),
            Self::Whole(..) => "a whole number".into(),
            Self::Time(_) => "a duration such as 500ms, 15m or 1h30m".into(),
            Self::Size(_) => "a size such as 500MiB or 2GiB".into(),
            Self::Share(_) => "a number or a percentage such as 25%".into(),
            Self::Flag => "true or false".into(),
            Self::PerCent => "a number such as 85 or 85.5".into(),
            Self::Pattern => "a pattern such as main or release/**".into(),
            Self::PathPattern => "a pattern of paths such as reports/*.xml".into(),
            Self::Branch => "the name of a branch".into(),
            Self::Cron => "a cron such as \"0 4 * * 1-5\"".into(),
            Self::TimeZone => "a time zone such as Europe/Berlin".into(),
            Self::Repository => "a repository on GitHub, owner/name".into(),
            Self::Login => "a login on GitHub".into(),
            Self::Email => "an email address".into(),
            Self::Maybe(inner) => inner.expected(),
            Self::Switches(_) => "a map, the name of one of its keys, or a list of them".into(),
            Self::Word(words, _) => one_of(words),
            Self::List(item) => format!("a list; each entry is {}", item.expected()),
            Self::OneOrList(item) => format!("{}, or a list of them", item.expected()),
            Self::Map(..) | Self::Table(_) | Self::Kinds(_) => "a map".into(),
        }
    }
}

/// The words of a choice, for messages.
fn one_of(words: &[&str]) -> String {
    match words {
        [word] => format!("{word:?}"),
        words => format!("one of {}", words.join(", ")),
    }
}
