//! The inspector, behind the name `admin` and a password. A real service asks its own sessions who is there.

use axum::{
    Router,
    extract::Request,
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rooms::Inspector;
use sha2::{Digest as _, Sha256};

use crate::App;

/// `/admin/rooms`: the page, with kicks and disconnects.
pub(crate) fn route(app: &App, password: &str) -> Router {
    let inspector = Inspector::new(&app.rooms).allow_actions();
    let expected = digest(&format!("Basic {}", STANDARD.encode(format!("admin:{password}"))));
    let guard = from_fn(move |request: Request, next: Next| async move {
        if is_admin(request.headers(), &expected) { next.run(request).await } else { who_are_you() }
    });
    Router::new().route("/admin/rooms", rooms::axum::inspector(&inspector).layer(guard))
}

/// Compares digests, so that the time it takes tells nothing of the password.
fn is_admin(headers: &HeaderMap, expected: &[u8; 32]) -> bool {
    headers.get(AUTHORIZATION).and_then(|said| said.to_str().ok()).is_some_and(|said| digest(said) == *expected)
}

fn who_are_you() -> Response {
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"rooms\", charset=\"UTF-8\"")]).into_response()
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}
