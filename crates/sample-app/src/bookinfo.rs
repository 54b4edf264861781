//! The four services of Istio's bookinfo demo: details, ratings, reviews (three versions) and the product page that
//! brings them together. The same paths and JSON fields, so that the routing examples written for it work.

use crate::client;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long the page waits for what it shows.
const PAGE_PATIENCE: Duration = Duration::from_secs(3);
/// How long reviews wait for ratings: version 2 is the patient one, which fault-injection examples rely on.
const PATIENT: Duration = Duration::from_secs(10);
const IMPATIENT: Duration = Duration::from_millis(2500);
const TITLE: &str = "The Comedy of Errors";
/// Cookie that remembers who is logged in.
const SESSION: &str = "bookinfo-user";

/// Where the other services are.
#[derive(Debug, Clone)]
pub struct Peers {
    base: BTreeMap<&'static str, String>,
    version: String,
    instance: String,
}

impl Peers {
    /// From the environment: `DETAILS_HOSTNAME` and so on, `SERVICES_DOMAIN`, `DETAILS_SERVICE_PORT`, `SERVICE_VERSION`.
    pub fn from_env(version: String, instance: String) -> Self {
        let var = |name: String| std::env::var(name).ok().filter(|v| !v.is_empty());
        let domain = var("SERVICES_DOMAIN".into()).map_or_else(String::new, |d| format!(".{d}"));
        let base = ["details", "ratings", "reviews"].map(|name| {
            let upper = name.to_ascii_uppercase();
            let host = var(format!("{upper}_HOSTNAME")).unwrap_or_else(|| name.to_string());
            let port = var(format!("{upper}_SERVICE_PORT")).unwrap_or_else(|| "9080".into());
            (name, format!("http://{host}{domain}:{port}"))
        });
        Self {
            base: base.into(),
            version,
            instance,
        }
    }

    async fn ask(&self, service: &str, path: &str, headers: &HeaderMap, patience: Duration) -> Result<Value, String> {
        let base = self.base.get(service).map(String::as_str).unwrap_or_default();
        client::get_json(&format!("{base}{path}"), &client::passed_on(headers), patience).await
    }
}

/// The routes of one service: `details`, `ratings`, `reviews` or `productpage`.
pub fn router(service: &str, peers: Peers) -> Option<Router> {
    let state = Arc::new(peers);
    let healthy =
        |name: &'static str| get(move || async move { Json(json!({ "status": format!("{name} is healthy") })) });
    Some(match service {
        "details" => Router::new()
            .route("/details/{id}", get(details))
            .route("/health", healthy("Details")),
        "ratings" => Router::new()
            .route("/ratings/{id}", get(ratings))
            .route("/health", healthy("Ratings")),
        "reviews" => Router::new()
            .route("/reviews/{id}", get(reviews))
            .with_state(state)
            .route("/health", healthy("Reviews")),
        "productpage" => Router::new()
            .route("/", get(page))
            .route("/index.html", get(page))
            .route("/productpage", get(page))
            .route("/login", post(login))
            .route("/logout", get(logout))
            .route("/health", get(|| async { "Product page is healthy" }))
            .route("/api/v1/products", get(|| async { Json(products()) }))
            .route("/api/v1/products/{id}", get(product))
            .route("/api/v1/products/{id}/{part}", get(part))
            .with_state(state),
        _ => return None,
    })
}

async fn details(Path(id): Path<i64>) -> Json<Value> {
    Json(json!({
        "id": id, "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
        "publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890", "ISBN-13": "123-1234567890",
    }))
}

async fn ratings(Path(id): Path<i64>) -> Json<Value> {
    Json(json!({ "id": id, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } }))
}

async fn reviews(State(peers): State<Arc<Peers>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let Ok(id) = id.parse::<i64>() else {
        return (StatusCode::BAD_REQUEST, "the product ID is a number\n").into_response();
    };
    let (color, patience) = match peers.version.as_str() {
        "v1" => (None, IMPATIENT),
        "v2" => (Some("black"), PATIENT),
        _ => (Some("red"), IMPATIENT),
    };
    let stars = match color {
        Some(_) => Some(
            peers
                .ask("ratings", &format!("/ratings/{id}"), &headers, patience)
                .await,
        ),
        None => None,
    };
    let review = |reviewer: &str, text: &str| {
        let mut review = json!({ "reviewer": reviewer, "text": text });
        match &stars {
            Some(Ok(answer)) => review["rating"] = json!({ "stars": answer["ratings"][reviewer], "color": color }),
            Some(Err(_)) => review["rating"] = json!({ "error": "Ratings service is currently unavailable" }),
            None => {}
        }
        review
    };
    let list = [
        review(
            "Reviewer1",
            "Two pairs of twins, one city, and not a dull minute from the first mistake to the last.",
        ),
        review(
            "Reviewer2",
            "Short, quick and silly. The plot asks for patience, the jokes repay it.",
        ),
    ];
    Json(json!({ "id": id.to_string(), "podname": peers.instance, "clustername": "null", "reviews": list }))
        .into_response()
}

fn products() -> Value {
    json!([{ "id": 0, "title": TITLE, "descriptionHtml": "An early and very short comedy of mistaken identity." }])
}

async fn product(Path(id): Path<i64>) -> Response {
    match id {
        0 => Json(products()[0].clone()).into_response(),
        _ => (StatusCode::NOT_FOUND, Json(json!({ "error": "no such product" }))).into_response(),
    }
}

/// `/api/v1/products/0/reviews` and so on: what the service behind says.
async fn part(State(peers): State<Arc<Peers>>, Path((id, part)): Path<(i64, String)>, headers: HeaderMap) -> Response {
    if !["details", "ratings", "reviews"].contains(&part.as_str()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match peers
        .ask(&part, &format!("/{part}/{id}"), &as_user(headers), PAGE_PATIENCE)
        .await
    {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            eprintln!("{part}: {error}");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(json!({ "error": format!("Sorry, product {part} are currently unavailable for this book.") })),
            )
                .into_response()
        }
    }
}

fn user(headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|c| c.to_str().ok())
        .flat_map(|c| c.split(';'));
    let value = cookies
        .filter_map(|c| c.trim().split_once('='))
        .find(|(name, _)| *name == SESSION)?
        .1;
    Some(value.to_string()).filter(|v| !v.is_empty())
}

/// The services behind are told who is logged in.
fn as_user(mut headers: HeaderMap) -> HeaderMap {
    headers.remove("end-user");
    if let Some(value) = user(&headers).and_then(|u| u.parse().ok()) {
        headers.insert("end-user", value);
    }
    headers
}

async fn login(Form(form): Form<BTreeMap<String, String>>) -> Response {
    let name: String = form
        .get("username")
        .into_iter()
        .flat_map(|n| n.chars())
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .collect();
    let cookie = format!("{SESSION}={name}; Path=/; HttpOnly");
    (
        StatusCode::FOUND,
        [
            (header::LOCATION, "/productpage".to_string()),
            (header::SET_COOKIE, cookie),
        ],
    )
        .into_response()
}

async fn logout() -> Response {
    let cookie = format!("{SESSION}=; Path=/; Max-Age=0");
    (
        StatusCode::FOUND,
        [
            (header::LOCATION, "/productpage".to_string()),
            (header::SET_COOKIE, cookie),
        ],
    )
        .into_response()
}

async fn page(State(peers): State<Arc<Peers>>, headers: HeaderMap) -> Html<String> {
    let name = user(&headers);
    let headers = as_user(headers);
    let (details, reviews) = tokio::join!(
        peers.ask("details", "/details/0", &headers, PAGE_PATIENCE),
        peers.ask("reviews", "/reviews/0", &headers, PAGE_PATIENCE)
    );
    Html(html(name.as_deref(), details.as_ref().ok(), reviews.as_ref().ok()))
}

fn html(user: Option<&str>, details: Option<&Value>, reviews: Option<&Value>) -> String {
    let text = |value: &Value| escape(&value.as_str().map_or_else(|| value.to_string(), str::to_string));
    let details = match details.and_then(Value::as_object) {
        Some(fields) => fields
            .iter()
            .filter(|(k, _)| *k != "id")
            .map(|(k, v)| format!("<dt>{}</dt><dd>{}</dd>", escape(k), text(v)))
            .collect(),
        None => "<p class=\"error\">Error fetching product details!</p>".to_string(),
    };
    let stars = |rating: &Value| match (rating["stars"].as_u64(), rating["error"].as_str()) {
        (Some(stars), _) => {
            let color = rating["color"].as_str().unwrap_or("black");
            format!(
                "<font color=\"{}\">{}{}</font>",
                escape(color),
                "\u{2605}".repeat(stars.min(5) as usize),
                "\u{2606}".repeat(5usize.saturating_sub(stars as usize))
            )
        }
        (None, Some(error)) => format!("<p class=\"error\">{}</p>", escape(error)),
        (None, None) => String::new(),
    };
    let reviews = match reviews.and_then(|r| r["reviews"].as_array().map(|l| (r, l))) {
        Some((all, list)) => {
            let one = |r: &Value| {
                format!(
                    "<blockquote>{}<br><small>{}</small> {}</blockquote>",
                    text(&r["text"]),
                    text(&r["reviewer"]),
                    stars(&r["rating"])
                )
            };
            format!(
                "{}<p>Reviews served by: {}</p>",
                list.iter().map(one).collect::<String>(),
                text(&all["podname"])
            )
        }
        None => "<p class=\"error\">Error fetching product reviews!</p>".to_string(),
    };
    let who = match user {
        Some(name) => format!("{} (<a href=\"/logout\">sign out</a>)", escape(name)),
        None => "<form method=\"post\" action=\"/login\"><input name=\"username\"><button>Sign in</button></form>"
            .to_string(),
    };
    format!(
        "<!doctype html>\n<title>Simple Bookstore App</title>\n{who}\n<h1>{TITLE}</h1>\n<h2>Book Details</h2>\n<dl>{details}</dl>\n<h2>Book Reviews</h2>\n{reviews}\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_it_got_and_what_is_missing() {
        let reviews = json!({ "podname": "p-1", "reviews": [{ "reviewer": "A<", "text": "t", "rating": { "stars": 4, "color": "red" } }, { "reviewer": "B", "text": "u", "rating": { "error": "gone" } }] });
        let shown = html(Some("jason"), Some(&json!({ "pages": 200 })), Some(&reviews));
        for part in [
            "jason",
            "<dt>pages</dt><dd>200</dd>",
            "A&lt;",
            "<font color=\"red\">\u{2605}\u{2605}\u{2605}\u{2605}\u{2606}</font>",
            "gone",
            "served by: p-1",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        let broken = html(None, None, None);
        assert!(
            broken.contains("Error fetching product details!") && broken.contains("Error fetching product reviews!")
        );
    }

    #[test]
    fn only_the_cookie_says_who_is_there() {
        let mut headers = HeaderMap::new();
        headers.insert("end-user", header::HeaderValue::from_static("forged"));
        assert!(!as_user(headers.clone()).contains_key("end-user"));
        headers.insert(
            header::COOKIE,
            header::HeaderValue::from_static("a=b; bookinfo-user=jason"),
        );
        assert_eq!(as_user(headers)["end-user"], "jason");
    }
}
