//! A small shop: the service that `windlass demo` takes to production.
//!
//! It listens on 127.0.0.1 at the port that `PORT` names.

mod health;
mod http;
mod prices;
mod version;

use http::{Request, Response};

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    println!("storefront {} listens on 127.0.0.1:{port}", version::VERSION);
    http::serve(&format!("127.0.0.1:{port}"), answer)
}

fn answer(request: &Request) -> Response {
    match request.path.as_str() {
        "/" => Response::ok(format!("{}\n", version::GREETING)),
        "/healthz" if health::HEALTHY => Response::ok("ok\n"),
        "/healthz" => Response::error(500, "not healthy\n"),
        "/version" => Response::ok(format!("{}\n", version::VERSION)),
        "/cart" => match prices::total(request.query.as_deref().unwrap_or("")) {
            Ok(total) => Response::ok(format!("{total}\n")),
            Err(why) => Response::error(400, format!("{why}\n")),
        },
        _ => Response::error(404, "there is nothing here\n"),
    }
}
