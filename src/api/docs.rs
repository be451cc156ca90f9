//! `/docs`: Swagger UI from the assets that poem-openapi carries, without a request leaving the host.
//!
//! poem-openapi renders one page with everything inline. Here it is taken apart, so that the page's
//! content policy can forbid inline scripts and everything from elsewhere.

use poem::http::{HeaderValue, header};
use poem::{Endpoint, Response, Route, endpoint::make_sync, get};

use super::reply;

/// Nothing but this host; Swagger UI sets style attributes, hence inline styles.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>MQueue API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

const START: &str = "SwaggerUIBundle({ dom_id: '#ui', url: '/openapi.json', deepLinking: true, \
                     validatorUrl: null, persistAuthorization: false });\n";

/// The style sheet and the script inside poem-openapi's rendered page.
///
/// Nothing when a new version of poem-openapi renders it in another way.
fn assets(html: &str) -> Option<(String, String)> {
    let between = |open: &str, close: &str| {
        let start = html.find(open)? + open.len();
        let end = start + html[start..].find(close)?;
        Some(html[start..end].to_owned())
    };
    let css = between("<style charset=\"UTF-8\">", "</style>")?;
    let script = between("<script charset=\"UTF-8\">", "</script>\n</head>")?;
    Some((css, script))
}

fn page(content_type: &'static str, body: &str) -> Response {
    let mut response = reply::text(content_type, body.to_owned());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn fixed(content_type: &'static str, body: String) -> impl Endpoint<Output = Response> + 'static {
    make_sync(move |_| page(content_type, &body))
}

/// `route` with the pages below `/docs`, made from poem-openapi's rendered page `html`.
pub(crate) fn mount(route: Route, html: &str) -> Route {
    let Some((css, script)) = assets(html) else {
        tracing::error!("the Swagger UI assets are not where they were; /docs is not served");
        return route;
    };
    let javascript = "text/javascript; charset=utf-8";
    route
        .at("/docs", get(fixed("text/html; charset=utf-8", PAGE.to_owned())))
        .at("/docs/swagger-ui.css", get(fixed("text/css; charset=utf-8", css)))
        .at("/docs/swagger-ui-bundle.js", get(fixed(javascript, script)))
        .at("/docs/start.js", get(fixed(javascript, START.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assets_are_found_in_the_rendered_page() {
        let html = super::super::routes::swagger_ui_html();
        let (css, script) = assets(&html).unwrap();
        assert!(css.contains(".swagger-ui") && script.contains("SwaggerUIBundle"));
        assert!(
            css.len() > 50_000 && script.len() > 500_000,
            "{} {}",
            css.len(),
            script.len()
        );
        assert!(!PAGE.contains("http"), "the page must not name another host");
    }
}
