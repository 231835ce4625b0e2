//! The JSON Schema of the pipeline file, made from the table of keys that reading goes by.

use serde_json::{Map, Value, json};

use super::shape::{Key, Keys, Kinds, Need, Shape, Table};
use super::{STAGES_LIMIT, keys};
use crate::ids::NAME_LIMIT;

/// The schema, in draft 2020-12, for editors and for whoever writes pipelines by program.
pub fn pipeline() -> Value {
    let mut schema = of(&keys::FILE);
    if let Some(root) = schema.as_object_mut() {
        root.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        root.insert("title".into(), "Windlass pipeline".into());
    }
    schema
}

fn of(shape: &Shape) -> Value {
    // YAML reads `1.10` as a number and `yes` as a word; where a text is meant, all of them will do.
    let text = json!({ "type": ["string", "number", "boolean"] });
    match shape {
        Shape::Text | Shape::Prose | Shape::Template | Shape::Condition | Shape::Command => text,
        Shape::Name => name(),
        Shape::Variable => json!({ "type": "string", "pattern": VARIABLE }),
        Shape::Path => json!({ "type": ["string", "number"], "pattern": "^[^/~\\\\][^\\\\]*$" }),
        Shape::AnyPath => json!({ "type": ["string", "number"], "minLength": 1 }),
        Shape::UrlPath => json!({ "type": "string", "pattern": "^/" }),
        Shape::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Time(_) => {
            json!({ "type": "string", "minLength": 2, "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$" })
        }
        Shape::Size(_) => json!({ "type": "string", "pattern": "^[0-9]+[KMGT]iB$" }),
        Shape::Share(least) => json!({ "oneOf": [
            { "type": "integer", "minimum": least },
            { "type": "string", "pattern": "^[0-9]{1,3}%$" },
        ] }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::PerCent => json!({ "type": "number", "minimum": 0, "maximum": 100 }),
        Shape::Pattern | Shape::PathPattern => {
            json!({ "type": ["string", "number"], "minLength": 1, "maxLength": 255 })
        }
        Shape::Branch => {
            json!({ "type": ["string", "number"], "pattern": "^[^-/. ~^:?*\\[\\\\][^ ~^:?*\\[\\\\]*$" })
        }
        Shape::Cron => json!({ "type": "string", "pattern": "^\\s*(\\S+\\s+){4}\\S+\\s*$" }),
        Shape::TimeZone => json!({ "type": "string", "minLength": 1 }),
        Shape::Repository => json!({ "type": "string", "pattern": REPOSITORY }),
        Shape::Login => json!({ "type": ["string", "number"], "pattern": "^[A-Za-z0-9_-]+(\\[bot\\])?$" }),
        Shape::Email => json!({ "type": "string", "pattern": "^[^@\\s]+@[^@\\s]+$" }),
        Shape::Maybe(inner) => json!({ "anyOf": [{ "type": "null" }, of(inner)] }),
        Shape::Switches(table) => switches(table),
        Shape::Word(words, _) => json!({ "enum": words }),
        Shape::List(item) => json!({ "type": "array", "minItems": 1, "items": of(item) }),
        Shape::OneOrList(item) => {
            json!({ "anyOf": [of(item), { "type": "array", "minItems": 1, "items": of(item) }] })
        }
        Shape::Map(keys, values) => map(*keys, of(values)),
        Shape::Table(table) => self::table(table, None),
        Shape::Kinds(kinds) => self::kinds(kinds),
    }
}

const REPOSITORY: &str = "^[A-Za-z0-9_-]+/[A-Za-z0-9._-]+$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$", "maxLength": NAME_LIMIT })
}

fn map(keys: Keys, values: Value) -> Value {
    let names = match keys {
        Keys::Names(_) | Keys::SomeNames(_) => name(),
        Keys::Variables => json!({ "pattern": VARIABLE }),
        Keys::Params => json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$" }),
        Keys::Repositories => json!({ "pattern": REPOSITORY }),
        Keys::People => json!({ "minLength": 1, "maxLength": 100 }),
    };
    let mut schema = json!({ "type": "object", "propertyNames": names, "additionalProperties": values });
    if let (Keys::SomeNames(_), Some(schema)) = (keys, schema.as_object_mut()) {
        schema.insert("minProperties".into(), 1.into());
        schema.insert("maxProperties".into(), STAGES_LIMIT.into());
    }
    schema
}

/// A table. `told_by` is the key and the word that tell it from others.
fn table(table: &Table, told_by: Option<(&str, &str)>) -> Value {
    let known = || table.keys.iter().filter(|key| key.need != Need::Later);
    let mut properties: Map<String, Value> =
        known().map(|key| (key.name.to_owned(), property(key))).collect();
    let mut required: Vec<&str> =
        known().filter(|key| key.need == Need::Required).map(|key| key.name).collect();
    if let Some((key, word)) = told_by {
        properties.insert(key.to_owned(), json!({ "const": word }));
        required.push(key);
    }
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let choices: Vec<Value> = (table.one_of.iter())
        .filter(|name| known().any(|key| key.name == **name))
        .map(|name| json!({ "required": [name] }))
        .collect();
    if let (false, Some(schema)) = (choices.is_empty(), schema.as_object_mut()) {
        schema.insert("oneOf".into(), choices.into());
    }
    schema
}

/// A table, or the names of its keys that need nothing more.
fn switches(table: &Table) -> Value {
    let alone = table.keys.iter().filter(|key| matches!(key.shape, Shape::Maybe(_))).map(|key| key.name);
    let word = json!({ "enum": alone.collect::<Vec<_>>() });
    json!({ "anyOf": [self::table(table, None), word, { "type": "array", "minItems": 1, "items": word }] })
}

fn property(key: &Key) -> Value {
    let mut schema = of(&key.shape);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".into(), key.doc.into());
    }
    schema
}

/// `if … then …` for each kind, so that an editor complains about the kind that was meant.
fn kinds(kinds: &Kinds) -> Value {
    let words: Vec<&str> = kinds.kinds.iter().map(|(word, _)| *word).collect();
    let key = kinds.key;
    let mut rules =
        vec![json!({ "if": { "not": { "required": [key] } }, "then": table(kinds.default, None) })];
    for (word, table) in kinds.kinds {
        rules.push(json!({
            "if": { "properties": { key: { "const": word } }, "required": [key] },
            "then": self::table(table, Some((key, word))),
        }));
    }
    json!({ "type": "object", "properties": { key: { "enum": words } }, "allOf": rules })
}
