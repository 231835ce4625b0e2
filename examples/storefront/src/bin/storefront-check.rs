//! The end-to-end check: asks a running shop, at the address in `WINDLASS_URL`, and fails unless
//! every answer is right and comes from this commit's version.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

/// Enough to reach every instance behind a load balancer.
const ROUNDS: usize = 20;

fn main() -> ExitCode {
    match check() {
        Ok(requests) => {
            println!("storefront {} answered {requests} requests as it should", storefront::version());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<usize, String> {
    let url = std::env::var("WINDLASS_URL").map_err(|_| "WINDLASS_URL must be set".to_owned())?;
    let host = url.strip_prefix("http://").unwrap_or(&url).trim_end_matches('/');
    let version = storefront::version();
    let expected = [
        ("/healthz", 200, "ok".to_owned()),
        ("/version", 200, version.to_owned()),
        ("/", 200, format!("Version {version}<")),
        ("/cart?item=rope:2&item=hook:1", 200, "{\"total\":\"28.99\"}".to_owned()),
        ("/cart?item=anchor", 400, "we do not sell".to_owned()),
        ("/nothing", 404, String::new()),
    ];
    let mut requests = 0;
    for _ in 0..ROUNDS {
        let connection = connect(host).map_err(|error| format!("cannot reach {url}: {error}"))?;
        let mut reader = BufReader::new(&connection);
        for (path, status, part) in &expected {
            let (found, body) =
                ask(&mut reader, host, path).map_err(|error| format!("GET {path}: no answer: {error}"))?;
            if found != *status || !body.contains(part) {
                return Err(format!("GET {path}: expected {status} with {part:?}, got {found}: {body}"));
            }
            requests += 1;
        }
    }
    Ok(requests)
}

fn connect(host: &str) -> std::io::Result<TcpStream> {
    let connection = TcpStream::connect(host)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(connection)
}

/// Sends one request on an open connection; answers status and body.
fn ask(reader: &mut BufReader<&TcpStream>, host: &str, path: &str) -> std::io::Result<(u16, String)> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    reader.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| bad("the connection was closed"))?;
    let mut length = None;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(bad("the headers do not end"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        }
    }
    let mut body = vec![0; length.ok_or_else(|| bad("it has no content-length"))?];
    reader.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
