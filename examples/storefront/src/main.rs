//! Serves the shop on 127.0.0.1, at the port that the environment variable `PORT` names.

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

fn main() -> ExitCode {
    let port: u16 = match std::env::var("PORT").map(|text| text.parse()) {
        Ok(Ok(port)) => port,
        _ => {
            eprintln!("PORT must be set to a number: the port to listen on");
            return ExitCode::FAILURE;
        }
    };
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen on 127.0.0.1:{port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("storefront {} listens on 127.0.0.1:{port}", storefront::version());
    storefront::http::serve(&listener, storefront::shop::answer);
    ExitCode::SUCCESS
}
