//! As much HTTP/1.1 as the shop needs: requests one after the other on a connection that is kept
//! open, a thread for each connection. See RFC 9112.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// An idle connection is closed after this time: longer than a load balancer keeps one, so that it
/// is never the shop that closes a connection just when a request comes.
const IDLE: Duration = Duration::from_secs(120);

/// Longest request line and headers together, and longest body, in bytes.
const HEAD_LIMIT: u64 = 16 * 1024;
const BODY_LIMIT: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
}

impl Request {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The parts of the query.
    pub fn query(&self) -> impl Iterator<Item = &str> {
        self.target.split_once('?').map(|(_, query)| query).unwrap_or_default().split('&')
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub kind: &'static str,
    pub body: String,
}

impl Response {
    pub fn new(status: u16, kind: &'static str, body: String) -> Self {
        Self { status, kind, body }
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.to_owned())
    }
}

/// Answers every connection, for ever.
pub fn serve(listener: &TcpListener, answer: fn(&Request) -> Response) {
    for connection in listener.incoming() {
        let Ok(connection) = connection else { continue };
        let work = move || {
            // The other side went away, or said nothing for long: there is nobody to tell.
            let _ = converse(&connection, answer);
        };
        if let Err(error) = std::thread::Builder::new().spawn(work) {
            eprintln!("a connection was turned away: {error}");
        }
    }
}

/// Answers the requests of one connection until either side wants to end it.
fn converse(connection: &TcpStream, answer: fn(&Request) -> Response) -> io::Result<()> {
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(connection);
    loop {
        match read(&mut reader)? {
            Start::End => return Ok(()),
            Start::Bad(response) => return write(connection, &response, Body::Sent, After::Close),
            Start::Request(request, after) => {
                let body = if request.method == "HEAD" { Body::LeftOut } else { Body::Sent };
                write(connection, &answer(&request), body, after)?;
                if after == After::Close {
                    return Ok(());
                }
            }
        }
    }
}

/// What was found where a request could begin.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    Request(Request, After),
    /// It is no request; this says why, and the connection cannot go on.
    Bad(Response),
    End,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    KeepOpen,
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Sent,
    LeftOut,
}

fn read(reader: &mut impl BufRead) -> io::Result<Start> {
    let bad = |status, text| Ok(Start::Bad(Response::text(status, text)));
    let mut head = reader.take(HEAD_LIMIT);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(Start::End);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return bad(400, "that is no request line\n");
    };
    let mut after = match version {
        "HTTP/1.1" => After::KeepOpen,
        "HTTP/1.0" => After::Close,
        _ => return bad(505, "only HTTP/1.1 and HTTP/1.0\n"),
    };
    let request = Request { method: method.to_owned(), target: target.to_owned() };

    let mut length = 0;
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return match head.limit() {
                0 => bad(431, "the headers are too long\n"),
                _ => Ok(Start::End),
            };
        }
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { return bad(400, "that is no header\n") };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "connection" if value.eq_ignore_ascii_case("close") => after = After::Close,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => after = After::KeepOpen,
            "content-length" => match value.parse() {
                Ok(number) if number <= BODY_LIMIT => length = number,
                Ok(_) => return bad(413, "the body is too long\n"),
                Err(_) => return bad(400, "that is no length\n"),
            },
            "transfer-encoding" => return bad(411, "a body needs a length\n"),
            _ => {}
        }
    }
    // No page takes a body, but the next request begins after it.
    io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(Start::Request(request, after))
}

fn write(mut connection: impl Write, response: &Response, body: Body, after: After) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "",
    };
    let Response { status, kind, body: text } = response;
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{}\r\n",
        text.len(),
        if after == After::Close { "connection: close\r\n" } else { "" },
    );
    if body == Body::Sent {
        bytes.push_str(text);
    }
    // In one piece, so that it travels in one.
    connection.write_all(bytes.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(request: &Request) -> Response {
        Response::text(200, &format!("{} {}", request.method, request.target))
    }

    /// Sends `text` on one connection and answers what comes back until it is closed.
    fn exchange(text: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::thread::spawn(move || serve(&listener, echo));
        client.write_all(text.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_connection_carries_several_requests() {
        let answer = exchange(
            "GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\ncontent-length: 5\r\n\r\nhelloGET /c HTTP/1.1\r\n\r\n",
        );
        let bodies = ["\r\n\r\nGET /a", "\r\n\r\nPOST /b", "\r\n\r\nGET /c"];
        assert!(bodies.iter().all(|body| answer.contains(body)), "{answer}");
        assert!(!answer.contains("connection: close"));
    }

    #[test]
    fn the_client_may_ask_for_the_end() {
        let answer = exchange("GET /a HTTP/1.1\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
        assert!(answer.contains("connection: close") && !answer.contains("/b"), "{answer}");
        let answer = exchange("GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n");
        assert!(answer.ends_with("GET /a"), "{answer}");
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let answer = exchange("HEAD /a HTTP/1.1\r\n\r\n");
        assert!(answer.contains("content-length: 7\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
        for (text, status) in [
            ("nonsense\r\n\r\n", "400"),
            ("GET / HTTP/2\r\n\r\n", "505"),
            ("GET / HTTP/1.1\r\nnonsense\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", "413"),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", "411"),
        ] {
            let answer = exchange(text);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text}: {answer}");
        }
        let mut reader = BufReader::new(long.as_bytes());
        assert!(matches!(read(&mut reader), Ok(Start::Bad(response)) if response.status == 431));
    }
}
