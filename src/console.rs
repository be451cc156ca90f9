//! The web console: the files of `web/dist`, carried in the binary and served below `/console`.

use poem::http::{HeaderValue, StatusCode, header};
use poem::web::Path;
use poem::{Response, Route, get, handler};

/// Nothing but this host, and no script or style inside the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
/// Names of assets carry a hash of their content.
const FOREVER: &str = "public, max-age=31536000, immutable";

#[derive(rust_embed::RustEmbed)]
#[folder = "web/dist"]
struct Files;

/// `route` with the console's page and its assets.
pub fn mount(route: Route) -> Route {
    route.at("/console", get(page)).at("/console/*path", get(below))
}

#[handler]
fn page() -> Response {
    file("index.html", "no-cache")
}

#[handler]
fn below(Path(path): Path<String>) -> Response {
    if path.starts_with("assets/") {
        file(&path, FOREVER)
    } else if is_view(&path) {
        file("index.html", "no-cache")
    } else {
        not_found()
    }
}

/// Whether the page itself shows something at `path`.
fn is_view(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let names = match parts.next() {
        None => 0,
        Some("topics" | "hooks") => 2,
        Some("namespaces") => 1,
        Some("node") => 0,
        Some(_) => return false,
    };
    parts.count() <= names
}

fn file(path: &str, caching: &'static str) -> Response {
    let Some(file) = Files::get(path) else {
        return not_found();
    };
    let mut response = Response::builder().body(file.data.into_owned());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type(path)),
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn not_found() -> Response {
    Response::builder().status(StatusCode::NOT_FOUND).finish()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use poem::{Endpoint, Request};

    use super::*;

    async fn ask(path: &str) -> Response {
        let request = Request::builder().uri(path.parse().unwrap()).finish();
        mount(Route::new()).get_response(request).await
    }

    fn header_of(response: &Response, name: header::HeaderName) -> &str {
        response.headers()[name].to_str().unwrap()
    }

    #[tokio::test]
    async fn the_page_is_never_stale_and_its_assets_never_change() {
        let mut index = ask("/console").await;
        assert_eq!(
            header_of(&index, header::CONTENT_TYPE),
            "text/html; charset=utf-8"
        );
        assert_eq!(header_of(&index, header::CACHE_CONTROL), "no-cache");
        assert_eq!(header_of(&index, header::CONTENT_SECURITY_POLICY), POLICY);
        let html = index.take_body().into_string().await.unwrap();
        let assets: Vec<&str> = html.split('"').filter(|text| text.contains("/assets/")).collect();
        assert!(assets.len() >= 2, "{html}");
        for asset in assets {
            let response = ask(asset).await;
            assert_eq!(response.status(), StatusCode::OK, "{asset}");
            assert_eq!(header_of(&response, header::CACHE_CONTROL), FOREVER);
            assert_ne!(
                header_of(&response, header::CONTENT_TYPE),
                "application/octet-stream"
            );
        }
    }

    #[tokio::test]
    async fn only_the_pages_own_views_fall_back_to_it() {
        for view in [
            "/console/",
            "/console/topics",
            "/console/topics/a/b",
            "/console/namespaces/a",
        ] {
            assert_eq!(ask(view).await.status(), StatusCode::OK, "{view}");
        }
        for other in [
            "/console/nowhere",
            "/console/topics/a/b/c",
            "/console/assets/none.js",
            "/console/assets/../index.html",
            "/console/index.html.br",
        ] {
            assert_eq!(ask(other).await.status(), StatusCode::NOT_FOUND, "{other}");
        }
    }
}
