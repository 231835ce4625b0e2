//! Places like `src/cart.rs:42` in the text of a failure.

/// Endings of files that people write.
const SOURCES: [&str; 46] = [
    "rs", "py", "js", "jsx", "mjs", "cjs", "ts", "tsx", "mts", "cts", "java", "kt", "kts", "groovy", "scala",
    "go", "c", "cc", "cpp", "cxx", "h", "hh", "hpp", "m", "mm", "rb", "php", "cs", "fs", "swift", "ex",
    "exs", "erl", "clj", "lua", "pl", "t", "sh", "bash", "bats", "dart", "hs", "ml", "zig", "vue", "svelte",
];
/// Directories of code that the author did not write.
const FOREIGN: [&str; 6] =
    ["/rustc/", "node_modules/", "site-packages/", "/usr/lib/", "/.cargo/registry/", "node:"];
/// How much of a text is looked through, in bytes.
const LOOKED_AT: usize = 16 * 1024;

/// The place in `text` that says most: the first in a file that `hints` speak of (a class, the file of
/// the case), else the first in the author's own code. Paths below `root` become relative to it.
pub fn find(text: &str, hints: &[&str], root: &str) -> Option<String> {
    let end = text.floor_char_boundary(LOOKED_AT.min(text.len()));
    let mut own = None;
    for (path, line) in places(&text[..end]) {
        if FOREIGN.iter().any(|foreign| path.contains(foreign)) {
            continue;
        }
        let stem =
            path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(stem, _)| stem);
        if stem.len() > 2 && hints.iter().any(|hint| hint.contains(stem)) {
            return Some(at(path, line, root));
        }
        own = own.or(Some((path, line)));
    }
    own.map(|(path, line)| at(path, line, root))
}

/// A place of a path and a line.
pub fn at(path: &str, line: u32, root: &str) -> String {
    let inside = path.strip_prefix(root).filter(|_| !root.is_empty()).and_then(|path| path.strip_prefix('/'));
    let path = inside.unwrap_or(path);
    format!("{}:{line}", path.strip_prefix("./").unwrap_or(path))
}

/// All places, in their order.
fn places(text: &str) -> impl Iterator<Item = (&str, u32)> {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | ':' | '~');
    let words = text.split(move |c: char| !part(c)).filter_map(|word| {
        let (path, rest) = word.split_once(':')?;
        Some((path, number(rest)?))
    });
    // As Python's tracebacks have it: `File "cart.py", line 42`.
    let python = text.split("File \"").skip(1).filter_map(|rest| {
        let (path, rest) = rest.split_once("\", line ")?;
        (!path.contains('\n')).then_some((path, number(rest)?))
    });
    words.chain(python).filter(|(path, _)| is_source(path))
}

/// The number that a text begins with.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits)?.parse().ok().filter(|line| *line > 0)
}

fn is_source(path: &str) -> bool {
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    path.len() <= 300 && ending.is_some_and(|(stem, ending)| !stem.is_empty() && SOURCES.contains(&ending))
}
