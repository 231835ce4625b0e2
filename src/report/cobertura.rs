//! Cobertura's XML, as coverage.py, gcovr, Istanbul, JaCoCo's converters and cargo-llvm-cov write it:
//! `class` elements with a `filename`, below them `line` elements with `number` and `hits`. A method's
//! lines are listed a second time below its class, and a file may have several classes.

use super::Error;
use super::lines::Lines;
use super::xml::{Document, DocumentType, Piece};

pub fn read(bytes: &[u8], into: &mut Lines) -> Result<(), Error> {
    let text = Document::decode(bytes)?;
    let mut document = Document::new(&text, DocumentType::NamePassedOver);
    // The class at hand, and how deep it stands.
    let mut class: Option<(String, usize)> = None;
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
                        into.file(&name);
                        class = Some((name, depth));
                    }
                    "line" => {
                        let Some((name, _)) = &class else { continue };
                        let [number, hits] = element.attributes(["number", "hits"]);
                        let number = number.and_then(|number| number.trim().parse().ok());
                        let hits: Option<f64> = hits.and_then(|hits| hits.trim().parse().ok());
                        let (Some(number), Some(hits)) = (number, hits) else {
                            return Err(
                                document.malformed("a line without a number and how often it was hit")
                            );
                        };
                        into.file(name).line(number, hits > 0.0);
                    }
                    _ => {}
                }
            }
            Piece::Close => {
                class = class.filter(|(_, at)| *at != depth);
                depth -= 1;
            }
            Piece::Text(_) => {}
            Piece::End => return Ok(()),
        }
    }
}
