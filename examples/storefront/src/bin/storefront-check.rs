//! The end-to-end check: asks a running shop, at the address given, what a customer would ask.

use std::io::{Read, Write};
use std::net::TcpStream;

fn main() {
    let url = std::env::args().nth(1).expect("usage: storefront-check http://127.0.0.1:PORT");
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let checks = [
        ("/healthz", 200, "ok"),
        ("/", 200, "Welcome to the storefront"),
        ("/cart?rope=2&anchor=1", 200, "11400"),
        ("/cart?cannon=1", 400, "we do not sell"),
        ("/nowhere", 404, "nothing"),
    ];
    for (path, status, text) in checks {
        let answer = get(&address, path).unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "GET {path}: {answer}");
        assert!(answer.contains(text), "GET {path} does not say {text:?}: {answer}");
        println!("ok GET {path}");
    }
}

fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
