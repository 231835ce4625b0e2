//! As much of HTTP/1.1 as a small service needs: one thread for each connection, keep-alive.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Longest request head, in bytes.
const HEAD_LIMIT: u64 = 16 * 1024;

pub struct Request {
    pub path: String,
    pub query: Option<String>,
    body: u64,
    close: bool,
}

pub struct Response {
    status: u16,
    body: String,
}

impl Response {
    pub fn ok(body: impl Into<String>) -> Self {
        Self { status: 200, body: body.into() }
    }

    pub fn error(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into() }
    }
}

/// Answers requests until the process ends.
pub fn serve(address: &str, answer: fn(&Request) -> Response) -> io::Result<()> {
    for stream in TcpListener::bind(address)?.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A client that goes away in the middle is its own business.
            let _ = converse(stream, answer);
        });
    }
    Ok(())
}

fn converse(stream: TcpStream, answer: fn(&Request) -> Response) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        io::copy(&mut reader.by_ref().take(request.body), &mut io::sink())?;
        let Response { status, body } = answer(&request);
        let connection = if request.close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            if status == 200 { "OK" } else { "Error" },
            body.len()
        );
        writer.write_all((head + &body).as_bytes())?;
        if request.close {
            break;
        }
    }
    Ok(())
}

/// The next request; `None` when the client is done.
fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(HEAD_LIMIT);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(_method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let close = words.next() == Some("HTTP/1.0");
    let mut request = Request { path: path.to_owned(), query, body: 0, close };
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            request.body = value.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        } else if name.eq_ignore_ascii_case("connection") {
            request.close = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(Some(request))
}
