//! Cobertura's XML, as coverage.py, gcovr, Istanbul, JaCoCo's converters and cargo-llvm-cov write it:
//! `class` elements with a `filename`, below them `line` elements with `number` and `hits`. A method's
//! lines are listed a second time below its class, and a file may have several classes.

use super::Error;
use super::lines::{File, Lines};
use super::xml::{Document, DocumentType, Piece};

struct Class {
    name: String,
    file: File,
    depth: usize,
}

pub fn read(bytes: &[u8], into: &mut Lines) -> Result<(), Error> {
    let text = Document::decode(bytes)?;
    let mut document = Document::new(&text, DocumentType::NamePassedOver);
    // The class at hand: its file, what was read of it, and how deep it stands. The name is looked up once
    // and not with each line: names may be long, and lines many.
    let mut class: Option<Class> = None;
    let mut depth = 0;
    loop {
        match document.next()? {
            Piece::Open(element) => {
                depth += 1;
                match element.name() {
                    "coverage" => {}
                    found if depth == 1 => {
                        let found = super::text::cut(&super::text::line(found), 60);
                        return Err(Error::Root { format: "Cobertura XML", found, expected: "<coverage>" });
                    }
                    "class" => {
                        let [name] = element.attributes(["filename"]);
                        let name = name.ok_or_else(|| document.malformed("a class without a filename"))?;
                        let inner = Class { name, file: File::default(), depth };
                        // One inside another ends it.
                        if let Some(outer) = class.replace(inner) {
                            into.add(outer.name, outer.file);
                        }
                    }
                    "line" => {
                        let Some(class) = &mut class else { continue };
                        let [number, hits] = element.attributes(["number", "hits"]);
                        let number = number.and_then(|number| number.trim().parse().ok());
                        let hits: Option<f64> = hits.and_then(|hits| hits.trim().parse().ok());
                        let (Some(number), Some(hits)) = (number, hits) else {
                            return Err(
                                document.malformed("a line without a number and how often it was hit")
                            );
                        };
                        class.file.line(number, hits > 0.0);
                    }
                    _ => {}
                }
            }
            Piece::Close => {
                if let Some(ended) = class.take_if(|class| class.depth == depth) {
                    into.add(ended.name, ended.file);
                }
                depth -= 1;
            }
            Piece::Text(_) => {}
            Piece::End => return Ok(()),
        }
    }
}
