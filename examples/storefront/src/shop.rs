//! Which request gets which answer.

use crate::http::{Request, Response};
use crate::{cart, health, version};

pub fn answer(request: &Request) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Response::text(405, "only GET and HEAD\n");
    }
    match request.path() {
        "/" => Response::new(200, "text/html; charset=utf-8", page()),
        "/healthz" => match health::check() {
            Ok(()) => Response::text(200, "ok\n"),
            Err(reason) => Response::text(503, &format!("{reason}\n")),
        },
        "/version" => Response::text(200, &format!("{}\n", version())),
        "/cart" => match cart::total(request.query().filter_map(|pair| pair.strip_prefix("item="))) {
            Ok(cents) => {
                let json = format!("{{\"total\":\"{}\"}}\n", cart::shown(cents));
                Response::new(200, "application/json", json)
            }
            Err(reason) => Response::text(400, &format!("{reason}\n")),
        },
        _ => Response::text(404, "there is no such page\n"),
    }
}

fn page() -> String {
    let version = version();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Storefront</title>\n\
         <h1>Storefront</h1>\n<p>Ropes, hooks and windlasses.</p>\n<p>Version {version}</p>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Response {
        answer(&Request { method: "GET".to_owned(), target: target.to_owned() })
    }

    #[test]
    fn the_page_shows_the_version() {
        let page = get("/");
        assert_eq!(page.status, 200);
        assert!(page.body.contains(&format!("Version {}<", version())));
        assert_eq!(get("/version").body.trim(), version());
    }

    #[test]
    fn a_cart_is_priced() {
        assert_eq!(get("/cart?item=rope:2&item=hook").body, "{\"total\":\"28.99\"}\n");
        assert_eq!(get("/cart?item=anchor").status, 400);
    }

    #[test]
    fn health_is_told_as_it_is() {
        assert_eq!(get("/healthz").status, if health::check().is_ok() { 200 } else { 503 });
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(get("/nothing").status, 404);
        let post = Request { method: "POST".to_owned(), target: "/".to_owned() };
        assert_eq!(answer(&post).status, 405);
    }
}
